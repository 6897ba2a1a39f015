//! Carries calls of C++ to a `Function` and its answers back, one set of entry points per type.

use std::any::Any;
use std::ffi::{c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::error::{BoxError, Error};
use crate::ffi::{self, CList, Vtable};
use crate::function::{BackwardContext, ForwardContext, Function};

/// What a graph node owns: the function, and what its gradients must look like.
struct Node<F> {
    function: F,
    input_shapes: Vec<Vec<i64>>,
}

impl<F: Function> Node<F> {
    const VTABLE: Vtable = Vtable {
        name: F::NAME.as_ptr().cast(),
        name_len: F::NAME.len(),
        forward: forward::<F>,
        backward: backward::<F>,
        drop: drop_node::<F>,
        free_text: ffi::free_text,
    };
}

pub(crate) fn apply<F: Function>(function: F, inputs: &[&Tensor]) -> Result<Vec<Tensor>, Error> {
    let input_shapes = inputs.iter().map(|input| input.size()).collect();
    let node = Box::into_raw(Box::new(Node { function, input_shapes }));
    let mut failure: Option<Error> = None;
    let mut outputs = ffi::List::new();
    let mut text = null_mut();
    let inputs: Vec<*const C_tensor> = inputs.iter().map(|input| input.as_ptr()).collect();
    // SAFETY: `node` is a `Node<F>` as the functions of the vtable expect, and the vtable is
    // static; the shim owns the node from here on, whatever the outcome. All other pointers are
    // live for the call, and the inputs are defined.
    let status = unsafe {
        ffi::tch_autograd_apply(
            node.cast(),
            &Node::<F>::VTABLE,
            (&raw mut failure).cast(),
            inputs.as_ptr(),
            inputs.len(),
            outputs.as_mut_ptr(),
            &mut text,
        )
    };
    if let Some(error) = failure {
        return Err(error);
    }
    if status != 0 {
        // SAFETY: the shim allocated it for us, or left it null.
        return Err(Error::Torch(unsafe { ffi::take_text(text) }));
    }
    defined(F::NAME, "output", outputs.into_tensors())
}

extern "C" fn forward<F: Function>(
    node: *mut c_void,
    failure: *mut c_void,
    inputs: *const CList,
    needs_grad: *const u8,
    outputs: *mut CList,
    saved: *mut CList,
    non_differentiable: *mut CList,
) -> c_int {
    // SAFETY: the shim passes on the node of `apply`, which nothing else uses before forward ends.
    let node = unsafe { &mut *node.cast::<Node<F>>() };
    // SAFETY: the shim passes on the `failure` of `apply`, which waits for this call.
    let failure = unsafe { &mut *failure.cast::<Option<Error>>() };
    let result = catch_unwind(AssertUnwindSafe(|| -> Result<(), Error> {
        // SAFETY: a live list of the shim.
        let inputs = defined(F::NAME, "input", unsafe { ffi::read_list(inputs) })?;
        // SAFETY: the shim gives one flag for each input.
        let mut ctx = ForwardContext::new(unsafe { flags(needs_grad, inputs.len()) });
        let results = node
            .function
            .forward(&mut ctx, &inputs)
            .map_err(|error| Error::Forward { name: F::NAME, error })?;
        if results.is_empty() {
            return Err(Error::Empty { name: F::NAME, what: "output" });
        }
        for (what, tensors) in [("output", &results), ("saved tensor", &ctx.saved)] {
            if let Some(index) = tensors.iter().position(|tensor| !tensor.defined()) {
                return Err(Error::Undefined { name: F::NAME, what, index });
            }
        }
        let n_outputs = results.len();
        for &index in &ctx.non_differentiable {
            let output = results.get(index).ok_or(Error::NoSuchOutput {
                name: F::NAME,
                index,
                n_outputs,
            })?;
            // SAFETY: a live list of the shim, which waits for this call.
            unsafe { ffi::push(non_differentiable, Some(output)) };
        }
        for (list, tensors) in [(outputs, &results), (saved, &ctx.saved)] {
            for tensor in tensors {
                // SAFETY: as above.
                unsafe { ffi::push(list, Some(tensor)) };
            }
        }
        Ok(())
    }));
    let error = match result {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => error,
        Err(panic) => Error::Panic { name: F::NAME, message: panic_message(panic) },
    };
    *failure = Some(error);
    1
}

extern "C" fn backward<F: Function>(
    node: *mut c_void,
    saved: *const CList,
    grad_outputs: *const CList,
    needs_grad: *const u8,
    grad_inputs: *mut CList,
) -> *mut c_char {
    // SAFETY: the shim passes on the node of `apply`, alive while the graph node is; torch locks
    // the graph node during backward, so only one thread is here.
    let node = unsafe { &*node.cast::<Node<F>>() };
    let result = catch_unwind(AssertUnwindSafe(|| -> Result<(), String> {
        // SAFETY: a live list of the shim.
        let saved = defined(F::NAME, "saved tensor", unsafe { ffi::read_list(saved) })
            .map_err(|error| error.to_string())?;
        // SAFETY: the shim gives one flag for each input.
        let needs_grad = unsafe { flags(needs_grad, node.input_shapes.len()) };
        // SAFETY: a live list of the shim.
        let grad_outputs = unsafe { ffi::read_list(grad_outputs) };
        let grads = node.function.backward(&BackwardContext::new(needs_grad, saved), &grad_outputs);
        let grads = grads.map_err(error_message)?;
        check_gradients(&grads, &node.input_shapes)?;
        for grad in &grads {
            // SAFETY: a live list of the shim, which waits for this call.
            unsafe { ffi::push(grad_inputs, grad.as_ref()) };
        }
        Ok(())
    }));
    let message = match result {
        Ok(Ok(())) => return null_mut(),
        Ok(Err(error)) => format!("the backward of {} failed: {error}", F::NAME),
        Err(panic) => format!("the backward of {} panicked: {}", F::NAME, panic_message(panic)),
    };
    ffi::give_text(message)
}

extern "C" fn drop_node<F: Function>(node: *mut c_void) {
    // SAFETY: the shim gives back the box of `apply`, once.
    let node = unsafe { Box::from_raw(node.cast::<Node<F>>()) };
    // A destructor that panics has nobody to report to; its message went to the panic hook.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(node))) {
        panic_message(panic);
    }
}

fn check_gradients(grads: &[Option<Tensor>], input_shapes: &[Vec<i64>]) -> Result<(), String> {
    if grads.len() != input_shapes.len() {
        return Err(format!("expected {} gradients, got {}", input_shapes.len(), grads.len()));
    }
    for (i, (grad, shape)) in grads.iter().zip(input_shapes).enumerate() {
        if let Some(grad) = grad.as_ref().filter(|grad| grad.defined())
            && grad.size() != *shape
        {
            let got = grad.size();
            return Err(format!("gradient {i}: expected shape {shape:?}, got {got:?}"));
        }
    }
    Ok(())
}

fn defined(
    name: &'static str,
    what: &'static str,
    tensors: Vec<Option<Tensor>>,
) -> Result<Vec<Tensor>, Error> {
    let check = |(index, tensor): (usize, Option<Tensor>)| {
        tensor.ok_or(Error::Undefined { name, what, index })
    };
    tensors.into_iter().enumerate().map(check).collect()
}

/// # Safety
/// `flags` points to `len` bytes.
unsafe fn flags(flags: *const u8, len: usize) -> Vec<bool> {
    // SAFETY: by contract; `len` is at least one, so the pointer is not null.
    unsafe { std::slice::from_raw_parts(flags, len) }.iter().map(|&flag| flag != 0).collect()
}

/// The text of an error. It is code of the function too: where it panics, the error is leaked, since
/// a panic of its end meanwhile would end the process.
fn error_message(error: BoxError) -> String {
    let error = ManuallyDrop::new(error);
    let message = error.to_string();
    drop(ManuallyDrop::into_inner(error));
    message
}

/// The message of a panic. The end of a payload may panic again, and no panic may leave for C++.
fn panic_message(panic: Box<dyn Any + Send>) -> String {
    let message = match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(message), _) => message.clone(),
        (None, Some(message)) => (*message).to_owned(),
        (None, None) => "no message".to_owned(),
    };
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        // There is no end of payloads that panic: this one is leaked.
        std::mem::forget(again);
    }
    message
}
