//! Errors and panics, on their way through torch and back.

use tch::{Kind, Tensor};
use tch_autograd::{BoxError, Error, apply};

use crate::functions::{Custom, leaf};

#[derive(Debug, thiserror::Error, PartialEq)]
#[error("row {0} is not finite")]
struct NotFinite(usize);

fn failing_forward(error: impl Fn() -> BoxError + Send + 'static) -> Custom {
    Custom {
        forward: Box::new(move |_, _| Err(error())),
        backward: Box::new(|_, _| Ok(vec![None])),
    }
}

fn identity_with_backward(
    backward: impl Fn(&Tensor) -> Result<Vec<Option<Tensor>>, BoxError> + Send + 'static,
) -> Custom {
    Custom {
        forward: Box::new(|_, x| Ok(vec![x[0].copy()])),
        backward: Box::new(move |_, grads| backward(grads[0].as_ref().expect("the only output"))),
    }
}

fn backward_text(function: Custom) -> String {
    let y = apply(function, &[&leaf(&[1.0, 2.0])]).unwrap().remove(0);
    y.sum(Kind::Double).f_backward().unwrap_err().to_string()
}

#[test]
fn an_error_of_forward_comes_back_as_it_was() {
    let error = apply(failing_forward(|| NotFinite(3).into()), &[&leaf(&[1.0])]).unwrap_err();
    assert_eq!(error.to_string(), "the forward of Custom failed: row 3 is not finite");
    let Error::Forward { name: "Custom", error: cause } = error else { panic!("got {error:?}") };
    assert_eq!(cause.downcast_ref(), Some(&NotFinite(3)));
}

#[test]
fn a_panic_of_forward_comes_back_as_an_error() {
    let function = failing_forward(|| panic!("index {} of {}", 7, 3));
    let error = apply(function, &[&leaf(&[1.0])]).unwrap_err();
    assert_eq!(error.to_string(), "the forward of Custom panicked: index 7 of 3");
    let function = failing_forward(|| panic!("static text"));
    let error = apply(function, &[&leaf(&[1.0])]).unwrap_err();
    assert!(matches!(error, Error::Panic { message, .. } if message == "static text"));
    let function = failing_forward(|| std::panic::panic_any(5));
    let error = apply(function, &[&leaf(&[1.0])]).unwrap_err();
    assert!(matches!(error, Error::Panic { message, .. } if message == "no message"));
}

#[test]
fn an_error_of_backward_comes_back_from_backward() {
    let text = backward_text(identity_with_backward(|_| Err(NotFinite(4).into())));
    assert!(text.contains("the backward of Custom failed: row 4 is not finite"), "{text}");
    // A text with a zero byte cannot cross as it is.
    let text = backward_text(identity_with_backward(|_| Err("a\0b".into())));
    assert!(text.contains("the backward of Custom failed: a b"), "{text}");
}

#[test]
fn a_panic_of_backward_comes_back_from_backward() {
    let text = backward_text(identity_with_backward(|_| panic!("lost the support")));
    assert!(text.contains("the backward of Custom panicked: lost the support"), "{text}");
}

/// Panics when it is dropped, with another such value as long as there are `left`.
#[derive(Debug)]
struct Explosive {
    left: usize,
}

impl Drop for Explosive {
    fn drop(&mut self) {
        std::panic::panic_any(Explosive { left: self.left.saturating_sub(1) });
    }
}

impl std::fmt::Display for Explosive {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("no text")
    }
}

impl std::error::Error for Explosive {}

fn explode() -> ! {
    std::panic::panic_any(Explosive { left: 3 })
}

/// A function whose end panics with a payload whose end panics.
struct ExplosiveEnd;

impl Drop for ExplosiveEnd {
    fn drop(&mut self) {
        explode();
    }
}

#[test]
fn what_panics_when_it_is_dropped_does_not_abort() {
    let error = apply(failing_forward(|| explode()), &[&leaf(&[1.0])]).unwrap_err();
    assert!(matches!(error, Error::Panic { message, .. } if message == "no message"));
    let text = backward_text(identity_with_backward(|_| explode()));
    assert!(text.contains("the backward of Custom panicked: no message"), "{text}");
    let end = ExplosiveEnd;
    let function = identity_with_backward(move |grad| {
        let _owned = &end;
        Ok(vec![Some(grad.copy())])
    });
    apply(function, &[&leaf(&[1.0])]).unwrap()[0].backward();
}

#[test]
fn an_error_of_backward_without_a_text_is_a_panic_of_backward() {
    let text = backward_text(identity_with_backward(|_| Err(Explosive { left: 1 }.into())));
    assert!(text.contains("the backward of Custom panicked: no "), "{text}");
}

#[test]
fn autograd_works_on_after_an_error() {
    for _ in 0..3 {
        let _ = backward_text(identity_with_backward(|_| panic!("again")));
    }
    let x = leaf(&[1.0]);
    let function = identity_with_backward(|grad| Ok(vec![Some(grad * 2.0)]));
    apply(function, &[&x]).unwrap()[0].backward();
    assert_eq!(x.grad().double_value(&[0]), 2.0);
    assert!((&x * 1.0).requires_grad());
}

#[test]
fn gradients_of_the_wrong_number_or_shape_are_errors() {
    let text = backward_text(identity_with_backward(|_| Ok(vec![])));
    assert!(text.contains("the backward of Custom failed: expected 1 gradients, got 0"), "{text}");
    let text = backward_text(identity_with_backward(|_| Ok(vec![None, None])));
    assert!(text.contains("expected 1 gradients, got 2"), "{text}");
    // Torch alone would sum a [3, 2] gradient to [2] without a word.
    let text =
        backward_text(identity_with_backward(|grad| Ok(vec![Some(grad.expand([3, 2], true))])));
    assert!(text.contains("gradient 0: expected shape [2], got [3, 2]"), "{text}");
}

#[test]
fn missing_and_undefined_tensors_are_errors() {
    let giving = |outputs: fn() -> Vec<Tensor>| Custom {
        forward: Box::new(move |_, _| Ok(outputs())),
        backward: Box::new(|_, _| Ok(vec![None])),
    };
    let x = leaf(&[1.0]);
    let text = |function, inputs: &[&Tensor]| apply(function, inputs).unwrap_err().to_string();
    assert_eq!(text(giving(Vec::new), &[]), "Custom has no input: expected at least one");
    assert_eq!(text(giving(Vec::new), &[&x]), "Custom has no output: expected at least one");
    assert_eq!(text(giving(Vec::new), &[&x, &Tensor::new()]), "input 1 of Custom is undefined");
    assert_eq!(text(giving(|| vec![Tensor::new()]), &[&x]), "output 0 of Custom is undefined");
    let saving = Custom {
        forward: Box::new(|ctx, x| {
            ctx.save_for_backward(&[&x[0], &Tensor::new()]);
            Ok(vec![x[0].copy()])
        }),
        backward: Box::new(|_, _| Ok(vec![None])),
    };
    assert_eq!(text(saving, &[&x]), "saved tensor 1 of Custom is undefined");
    let marking = Custom {
        forward: Box::new(|ctx, x| {
            ctx.mark_non_differentiable(1);
            Ok(vec![x[0].copy()])
        }),
        backward: Box::new(|_, _| Ok(vec![None])),
    };
    assert_eq!(
        text(marking, &[&x]),
        "Custom marked output 1 as non-differentiable, but has 1 outputs"
    );
}

#[test]
fn a_torch_error_inside_forward_keeps_its_text() {
    let function = Custom {
        forward: Box::new(|_, x| Ok(vec![x[0].f_matmul(&x[0].reshape([1, -1]))?])),
        backward: Box::new(|_, _| Ok(vec![None])),
    };
    let text = apply(function, &[&leaf(&[1.0, 2.0])]).unwrap_err().to_string();
    assert!(text.starts_with("the forward of Custom failed: "), "{text}");
    assert!(text.contains("mat1 and mat2 shapes cannot be multiplied"), "{text}");
}
