//! Values and gradients, against closed forms and against central differences.

use proptest::prelude::*;
use tch::{Kind, Tensor};
use tch_autograd::{BoxError, Error, GradcheckOptions, apply, gradcheck};

use crate::functions::{Cube, Custom, ProductAndSum, leaf, values};

fn options() -> GradcheckOptions {
    GradcheckOptions { eps: 1e-5, atol: 1e-7, rtol: 1e-6 }
}

#[test]
fn value_and_gradient_of_one_input() {
    let x = leaf(&[-2.0, 0.0, 0.5, 3.0]);
    let y = apply(Cube, &[&x]).unwrap().remove(0);
    assert_eq!(values(&y), [-8.0, 0.0, 0.125, 27.0]);
    assert!(y.requires_grad());
    (&y * 2.0).sum(Kind::Double).backward();
    // d(2x³)/dx = 6x².
    assert_eq!(values(&x.grad()), [24.0, 0.0, 1.5, 54.0]);
}

#[test]
fn several_inputs_and_outputs() {
    let (a, b) = (leaf(&[1.0, 2.0]), leaf(&[3.0, 5.0]));
    let outputs = apply(ProductAndSum { mark: true }, &[&a, &b]).unwrap();
    assert_eq!(outputs.len(), 4);
    let requires: Vec<bool> = outputs.iter().map(Tensor::requires_grad).collect();
    assert_eq!(requires, [true, true, false, false]);
    // d(ab + 10(a + b)): b + 10 and a + 10.
    (&outputs[0] + &outputs[1] * 10.0).sum(Kind::Double).backward();
    assert_eq!(values(&a.grad()), [13.0, 15.0]);
    assert_eq!(values(&b.grad()), [11.0, 12.0]);
}

#[test]
fn outputs_without_gradient_arrive_as_none() {
    let (a, b) = (leaf(&[1.0, 2.0]), leaf(&[3.0, 5.0]));
    let outputs = apply(ProductAndSum { mark: false }, &[&a, &b]).unwrap();
    outputs[1].sum(Kind::Double).backward();
    assert_eq!(values(&a.grad()), [1.0, 1.0]);
    assert_eq!(values(&b.grad()), [1.0, 1.0]);
}

#[test]
fn gradcheck_passes_right_gradients() {
    let x = Tensor::from_slice(&[-1.5, 0.3, 0.7, 2.0]).reshape([2, 2]).set_requires_grad(true);
    gradcheck(|x| apply(Cube, &[&x[0]]), &[x], options()).unwrap();
    let (a, b) = (leaf(&[0.2, -0.4, 1.0]), leaf(&[0.5, 0.1, 2.0]));
    gradcheck(|x| apply(ProductAndSum { mark: true }, &[&x[0], &x[1]]), &[a, b], options())
        .unwrap();
}

#[test]
fn gradcheck_names_the_wrong_derivative() {
    // Right but for the second element of the second input.
    let wrong = || Custom {
        forward: Box::new(|_, x| Ok(vec![&x[0] + &x[1] * 2.0])),
        backward: Box::new(|_, grads| {
            let grad = grads[0].as_ref().map(Tensor::shallow_clone);
            let scale = Tensor::from_slice(&[2.0, 2.5]);
            Ok(vec![grad.as_ref().map(Tensor::shallow_clone), grad.map(|g| g * scale)])
        }),
    };
    let inputs = [leaf(&[0.5, 1.0]), leaf(&[-1.0, 3.0])];
    let error = gradcheck(|x| apply(wrong(), &[&x[0], &x[1]]), &inputs, options()).unwrap_err();
    let Error::Gradient { output, output_element, input, input_element, expected, got } = error
    else {
        panic!("expected a gradient error, got {error}")
    };
    assert_eq!((output, output_element, input, input_element), (0, 1, 1, 1));
    assert!((expected - 2.0).abs() < 1e-6);
    assert_eq!(got, 2.5);
}

#[test]
fn gradcheck_takes_nan_and_missing_gradients_for_wrong() {
    for constant in [None, Some(f64::NAN)] {
        let function = || Custom {
            forward: Box::new(|_, x| Ok(vec![&x[0] * 3.0])),
            backward: Box::new(move |_, grads| {
                let grad = grads[0].as_ref().expect("the only output");
                Ok(vec![constant.map(|c| grad.full_like(c))])
            }),
        };
        let error = gradcheck(|x| apply(function(), &[&x[0]]), &[leaf(&[1.0])], options());
        assert!(matches!(error, Err(Error::Gradient { expected, .. }) if expected > 2.9));
    }
}

#[test]
fn gradcheck_says_what_it_cannot_check() {
    let constant = Tensor::from_slice(&[1.0]);
    let single = Tensor::from_slice(&[1.0f32]).set_requires_grad(true);
    let identity = |x: &[Tensor]| Ok::<_, BoxError>(vec![x[0].shallow_clone()]);
    let detached = |x: &[Tensor]| Ok::<_, BoxError>(vec![x[0].detach()]);
    let to_float = |x: &[Tensor]| Ok::<_, BoxError>(vec![x[0].to_kind(Kind::Float)]);
    let text = |result: Result<(), Error>| result.unwrap_err().to_string();
    assert_eq!(
        text(gradcheck(identity, &[constant], options())),
        "gradcheck: no input requires a gradient"
    );
    assert_eq!(
        text(gradcheck(identity, &[single], options())),
        "gradcheck: input 0: expected kind Double, got Float"
    );
    assert_eq!(
        text(gradcheck(detached, &[leaf(&[1.0])], options())),
        "gradcheck: no output requires a gradient"
    );
    assert_eq!(
        text(gradcheck(to_float, &[leaf(&[1.0])], options())),
        "gradcheck: output 0: expected kind Double, got Float"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn gradients_follow_the_chain_rule(
        x in prop::collection::vec(-3.0..3.0f64, 1..12),
        scale in -2.0..2.0f64,
    ) {
        let inside = |x: &[Tensor]| apply(Cube, &[&(&x[0] * scale).sin()]);
        gradcheck(inside, &[leaf(&x)], options()).unwrap();
        let twice = |x: &[Tensor]| {
            let y = apply(Cube, &[&x[0].tanh()])?.remove(0);
            apply(Cube, &[&(y + scale)])
        };
        gradcheck(twice, &[leaf(&x)], options()).unwrap();
    }
}
