//! How functions behave inside a graph: recording, saving, freeing, differentiating twice, threads.

use std::sync::{Arc, Mutex};

use tch::{Kind, Tensor, no_grad};
use tch_autograd::apply;

use crate::functions::{Cube, Custom, ProductAndSum, leaf, values};

#[test]
fn nothing_is_recorded_where_no_gradient_is_wanted() {
    let x = leaf(&[1.0, 2.0]);
    assert!(!no_grad(|| apply(Cube, &[&x]).unwrap().remove(0)).requires_grad());
    assert!(!apply(Cube, &[&x.detach()]).unwrap().remove(0).requires_grad());
    assert!(apply(Cube, &[&x]).unwrap().remove(0).requires_grad());
}

#[test]
fn operations_of_forward_are_not_recorded() {
    let seen = Arc::new(Mutex::new(None));
    let inside = Arc::clone(&seen);
    let function = Custom {
        forward: Box::new(move |_, x| {
            let y = &x[0] * 2.0;
            *inside.lock().unwrap() = Some(y.requires_grad());
            Ok(vec![y])
        }),
        backward: Box::new(|_, grads| Ok(vec![grads[0].as_ref().map(|g| g * 2.0)])),
    };
    assert!(apply(function, &[&leaf(&[1.0])]).unwrap()[0].requires_grad());
    assert_eq!(*seen.lock().unwrap(), Some(false));
}

#[test]
fn needs_input_grad_follows_the_inputs_and_the_question() {
    let record = Arc::new(Mutex::new(Vec::new()));
    let (in_forward, in_backward) = (Arc::clone(&record), Arc::clone(&record));
    let function = || Custom {
        forward: {
            let record = Arc::clone(&in_forward);
            Box::new(move |ctx, x| {
                record.lock().unwrap().push([0, 1, 2, 3].map(|i| ctx.needs_input_grad(i)));
                Ok(vec![&x[0] + &x[1] + &x[2]])
            })
        },
        backward: {
            let record = Arc::clone(&in_backward);
            Box::new(move |ctx, grads| {
                record.lock().unwrap().push([0, 1, 2, 3].map(|i| ctx.needs_input_grad(i)));
                Ok((0..3).map(|_| grads[0].as_ref().map(Tensor::shallow_clone)).collect())
            })
        },
    };
    let (a, b, c) = (leaf(&[1.0]), Tensor::from_slice(&[2.0]), leaf(&[3.0]));
    let y = apply(function(), &[&a, &b, &c]).unwrap().remove(0);
    let grads = Tensor::f_run_backward(&[&y], &[&c], true, false).unwrap();
    assert_eq!(values(&grads[0]), [1.0]);
    y.backward();
    let _ = no_grad(|| apply(function(), &[&a, &b, &c]).unwrap());
    assert_eq!(
        *record.lock().unwrap(),
        [
            [true, false, true, false],
            [false, false, true, false],
            [true, false, true, false],
            [false; 4],
        ]
    );
}

#[test]
fn a_saved_tensor_changed_in_place_is_an_error() {
    let x = leaf(&[1.0, 2.0]);
    let inner = &x * 1.0;
    let y = apply(Cube, &[&inner]).unwrap().remove(0).sum(Kind::Double);
    let _ = inner.shallow_clone().fill_(7.0);
    let message = y.f_backward().unwrap_err().to_string();
    assert!(message.contains("modified by an inplace operation"), "{message}");
    assert!(!x.grad().defined());
}

#[test]
fn an_input_changed_by_forward_is_an_error() {
    let function = Custom {
        forward: Box::new(|_, x| {
            let _ = x[1].shallow_clone().fill_(0.0);
            Ok(vec![x[0].copy()])
        }),
        backward: Box::new(|_, _| Ok(vec![None, None])),
    };
    let error = apply(function, &[&leaf(&[1.0]), &Tensor::from_slice(&[1.0])]).unwrap_err();
    assert_eq!(error.to_string(), "the forward of Custom changed input 1 in place");
}

#[test]
fn a_second_backward_needs_the_graph_kept() {
    let x = leaf(&[1.0, 2.0]);
    let y = apply(Cube, &[&x]).unwrap().remove(0).sum(Kind::Double);
    let first = Tensor::f_run_backward(&[&y], &[&x], true, false).unwrap();
    let second = Tensor::f_run_backward(&[&y], &[&x], false, false).unwrap();
    assert_eq!(values(&first[0]), values(&second[0]));
    let message = Tensor::f_run_backward(&[&y], &[&x], false, false).unwrap_err().to_string();
    assert!(message.contains("backward through the graph a second time"), "{message}");
}

#[test]
fn an_input_returned_as_output_keeps_its_history() {
    let function = Custom {
        forward: Box::new(|_, x| Ok(vec![x[0].shallow_clone()])),
        backward: Box::new(|_, grads| Ok(vec![grads[0].as_ref().map(|g| g * 5.0)])),
    };
    let x = leaf(&[1.0]);
    apply(function, &[&x]).unwrap()[0].backward();
    assert_eq!(values(&x.grad()), [5.0]);
    assert!(x.is_leaf());
}

#[test]
fn a_saved_output_is_available_in_backward() {
    let exp = || Custom {
        forward: Box::new(|ctx, x| {
            let y = x[0].exp();
            ctx.save_for_backward(&[&y]);
            Ok(vec![y])
        }),
        backward: Box::new(|ctx, grads| Ok(vec![grads[0].as_ref().map(|g| g * &ctx.saved()[0])])),
    };
    let x = leaf(&[0.0, 1.0]);
    let y = apply(exp(), &[&x]).unwrap().remove(0);
    y.sum(Kind::Double).backward();
    assert_eq!(values(&x.grad()), values(&y));
}

/// The text that tells of a second differentiation.
const ONCE: &str = "the backward of Cube is not differentiable: it can be differentiated once only";

#[test]
fn a_second_derivative_is_an_error_with_respect_to_an_input() {
    let x = leaf(&[1.0, 2.0]);
    let y = apply(Cube, &[&x]).unwrap().remove(0).sum(Kind::Double);
    let grad = Tensor::f_run_backward(&[&y], &[&x], true, true).unwrap().remove(0);
    assert_eq!(values(&grad), [3.0, 12.0]);
    let root = grad.sum(Kind::Double);
    let message = Tensor::f_run_backward(&[&root], &[&x], true, false).unwrap_err().to_string();
    assert!(message.contains(ONCE), "{message}");
    let message = root.f_backward().unwrap_err().to_string();
    assert!(message.contains(ONCE), "{message}");
}

#[test]
fn a_second_derivative_is_an_error_even_beside_a_true_one() {
    // d/dx of (x · y'(x)) has a part that torch knows, y'(x), and one that it does not.
    let x = leaf(&[1.0, 2.0]);
    let y = apply(Cube, &[&x]).unwrap().remove(0).sum(Kind::Double);
    let grad = Tensor::f_run_backward(&[&y], &[&x], true, true).unwrap().remove(0);
    let root = (grad * &x).sum(Kind::Double);
    let message = Tensor::f_run_backward(&[&root], &[&x], true, false).unwrap_err().to_string();
    assert!(message.contains(ONCE), "{message}");
}

#[test]
fn a_second_derivative_is_an_error_through_the_incoming_gradient() {
    // y = w·x³: dy/dx = w·3x² depends on w through the incoming gradient alone.
    let (x, w) = (leaf(&[1.0, 2.0]), leaf(&[3.0, 4.0]));
    let y = (apply(Cube, &[&x]).unwrap().remove(0) * &w).sum(Kind::Double);
    let grad = Tensor::f_run_backward(&[&y], &[&x], true, true).unwrap().remove(0);
    assert_eq!(values(&grad), [9.0, 48.0]);
    let root = grad.sum(Kind::Double);
    let message = Tensor::f_run_backward(&[&root], &[&w], true, false).unwrap_err().to_string();
    assert!(message.contains(ONCE), "{message}");
}

#[test]
fn a_gradient_penalty_that_does_not_pass_the_function_still_works() {
    // The penalty depends on w through torch's own operations only.
    let (x, w) = (leaf(&[1.0, 2.0]), leaf(&[3.0, 4.0]));
    let y = (apply(Cube, &[&x]).unwrap().remove(0) + &w * &w).sum(Kind::Double);
    let grad = Tensor::f_run_backward(&[&y], &[&w], true, true).unwrap().remove(0);
    let second = Tensor::f_run_backward(&[&grad.sum(Kind::Double)], &[&w], true, false).unwrap();
    assert_eq!(values(&second[0]), [2.0, 2.0]);
}

#[test]
fn operations_of_backward_are_not_recorded() {
    let seen = Arc::new(Mutex::new(None));
    let inside = Arc::clone(&seen);
    let square = Custom {
        forward: Box::new(|ctx, x| {
            ctx.save_for_backward(&[&x[0]]);
            Ok(vec![&x[0] * &x[0]])
        }),
        backward: Box::new(move |ctx, grads| {
            let grad = grads[0].as_ref().map(|g| g * &ctx.saved()[0] * 2.0);
            *inside.lock().unwrap() = grad.as_ref().map(Tensor::requires_grad);
            Ok(vec![grad])
        }),
    };
    let x = leaf(&[3.0]);
    let y = apply(square, &[&x]).unwrap();
    let grad = Tensor::f_run_backward(&y, &[&x], true, true).unwrap().remove(0);
    assert_eq!(values(&grad), [6.0]);
    assert_eq!(*seen.lock().unwrap(), Some(false));
}

#[test]
fn backward_runs_on_another_thread() {
    let x = leaf(&[1.0, 2.0]);
    let y = apply(Cube, &[&x]).unwrap().remove(0).sum(Kind::Double);
    std::thread::spawn(move || y.f_backward()).join().unwrap().unwrap();
    assert_eq!(values(&x.grad()), [3.0, 12.0]);
}

#[test]
fn one_graph_is_differentiated_by_many_threads_at_once() {
    let x = leaf(&[1.0, 2.0, 3.0]);
    let y = apply(Cube, &[&x]).unwrap().remove(0);
    let threads: Vec<_> = (0..8)
        .map(|i| {
            let (x, y) = (x.shallow_clone(), y.shallow_clone());
            std::thread::spawn(move || {
                let root = (y * f64::from(i)).sum(Kind::Double);
                (0..20)
                    .map(|_| {
                        Tensor::f_run_backward(&[&root], &[&x], true, false).unwrap().remove(0)
                    })
                    .map(|grad| values(&grad))
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    for (i, thread) in threads.into_iter().enumerate() {
        let i = i as f64;
        for grad in thread.join().unwrap() {
            assert_eq!(grad, [3.0 * i, 12.0 * i, 27.0 * i]);
        }
    }
}

#[test]
fn functions_nest_in_a_graph_with_shared_inputs() {
    // x³ + (x³)·x: 3x² + 4x³.
    let x = leaf(&[1.0, 2.0]);
    let cube = apply(Cube, &[&x]).unwrap().remove(0);
    let outputs = apply(ProductAndSum { mark: false }, &[&cube, &x]).unwrap();
    (&outputs[0] + &cube).sum(Kind::Double).backward();
    assert_eq!(values(&x.grad()), [7.0, 44.0]);
}
