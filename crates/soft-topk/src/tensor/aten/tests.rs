//! The ATen operations against the engine, numbers of 700 digits and finite differences.

use tch::{Device, Kind, Tensor};
use tch_autograd::{GradcheckOptions, gradcheck};

use super::{Aten, Domain};
use crate::tensor::cpu::Cpu;
use crate::tensor::form::Form;
use crate::tensor::soft::apply;

/// The output and the gradients for x, k and alpha, given an incoming gradient.
fn run(aten: bool, form: Form, inputs: &[Tensor; 3], v: &Tensor) -> Vec<Tensor> {
    let leaves = inputs.each_ref().map(|t| t.detach().copy().set_requires_grad(true));
    let [x, k, alpha] = &leaves;
    let out = if aten {
        apply(Aten { form, domain: Domain::Checked }, &[x, k, alpha])
    } else {
        apply(Cpu::new(form), &[x, k, alpha])
    };
    let out = out.unwrap();
    (&out * v).sum(out.kind()).backward();
    let grads = leaves.iter().map(Tensor::grad);
    [out.detach()].into_iter().chain(grads).collect()
}

#[test]
fn weights_end_where_those_of_the_engine_do() {
    for kind in [Kind::Float, Kind::Double] {
        let options = (kind, Device::Cpu);
        let x = Tensor::arange(4000, options).reshape([4, 1000]).remainder(1000.0) * 0.01;
        let k = Tensor::from_slice(&[3.0, 100.0, 500.0, 998.5]).to_kind(kind);
        let alpha = Tensor::from(0.003).to_kind(kind);
        let one = run(true, Form::Weights, &[x.copy(), k.copy(), alpha.copy()], &x);
        let other = run(false, Form::Weights, &[x.copy(), k, alpha], &x);
        // The engine measures from the point of its last pass, which may be a few alpha away.
        let apart = one[0].gt(0.0).not_equal_tensor(&other[0].gt(0.0)).to_kind(kind);
        let largest = (one[0].maximum(&other[0]) * apart).max().double_value(&[]);
        let least = if kind == Kind::Double { 1e-300 } else { 1e-36 };
        assert!(largest < least, "{kind:?}: {largest:e}");
        let zeros = one[0].eq(0.0).sum(Kind::Int64).int64_value(&[]);
        assert!(zeros > 100 && zeros < 3000, "{zeros}");
    }
}

/// The weights and the gradients for x and k of rows that may lie outside the domain.
fn run_or_nan(x: &Tensor, k: &Tensor, alpha: f64, v: &Tensor) -> [Tensor; 3] {
    let leaves = [x, k].map(|t| t.detach().copy().set_requires_grad(true));
    let out = tch_autograd::read::as_on_a_gpu(|| {
        let (x, k) = (&leaves[0], &leaves[1]);
        crate::tensor::soft_topk_or_nan(x, k, alpha).unwrap()
    });
    (&out * v).sum(out.kind()).backward();
    [out.detach(), leaves[0].grad(), leaves[1].grad()]
}

#[test]
fn rows_outside_the_domain_are_nan_and_the_others_what_they_were() {
    for kind in [Kind::Float, Kind::Double] {
        let options = (kind, Device::Cpu);
        let (x, v) = (Tensor::randn([9, 12], options), Tensor::randn([9, 12], options));
        let k = Tensor::full([9], 4.0, options);
        let fine = run_or_nan(&x, &k, 0.3, &v);
        let inputs = [x.copy(), k.copy(), Tensor::from(0.3).to_kind(kind)];
        let checked = run(true, Form::Weights, &inputs, &v);
        for (place, got) in fine.iter().enumerate() {
            assert_eq!(*got, checked[place], "inside the domain, the same bits");
        }
        let (bad_x, bad_k) = (x.copy(), k.copy());
        for (row, value) in [(1, f64::NAN), (2, f64::INFINITY), (3, f64::NEG_INFINITY)] {
            let _ = bad_x.get(row).get(5).fill_(value);
        }
        for (row, value) in [(5, 0.0), (6, 12.0), (7, -3.0), (8, f64::NAN)] {
            let _ = bad_k.get(row).fill_(value);
        }
        let bad = run_or_nan(&bad_x, &bad_k, 0.3, &v);
        for (bad, fine) in bad.iter().zip(&fine) {
            let nan = bad.isnan().reshape([9, -1]);
            for row in 0..9 {
                if [0, 4].contains(&row) {
                    assert_eq!(bad.get(row), fine.get(row), "row {row}");
                } else {
                    assert_eq!(nan.get(row).all().int64_value(&[]), 1, "row {row}: {bad:?}");
                }
            }
        }
    }
}

#[test]
fn what_is_known_of_the_arguments_is_an_error_still() {
    let (x, k) = (Tensor::ones([2, 3], (Kind::Float, Device::Cpu)), Tensor::from(1.0));
    tch_autograd::read::as_on_a_gpu(|| {
        use crate::Error;
        use crate::tensor::soft_topk_or_nan;
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-60] {
            let error = soft_topk_or_nan(&x, &k, alpha).unwrap_err();
            assert!(matches!(error, Error::Alpha { .. }), "{alpha}: {error}");
        }
        let short = soft_topk_or_nan(&x.narrow(1, 0, 1), &k, 0.1).unwrap_err();
        assert!(matches!(short, Error::RowLength { n: 1 }), "{short}");
        let ks = Tensor::ones([5], (Kind::Float, Device::Cpu));
        let error = soft_topk_or_nan(&x, &ks, 0.1).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{error}");
    });
    let error = crate::tensor::soft_topk_or_nan(&x, &Tensor::from(3.0), 0.1).unwrap_err();
    assert!(matches!(error, crate::Error::Budget { .. }), "on the CPU it is read: {error}");
}

#[track_caller]
fn assert_same(form: Form, inputs: &[Tensor; 3], v: &Tensor, tolerance: f64) {
    let (one, other) = (run(true, form, inputs, v), run(false, form, inputs, v));
    for (place, (one, other)) in one.iter().zip(&other).enumerate() {
        let difference = (one - other).abs() / (other.abs() + 1.0);
        let difference = difference.masked_fill(&one.eq_tensor(other), 0.0);
        let worst = difference.max().double_value(&[]);
        assert!(worst <= tolerance, "{form:?}, output {place}: {worst:e}");
    }
}

#[test]
fn golden_cases_agree_with_the_engine() {
    let folder = std::env::var("SOFTSAE_GOLDEN")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/golden").into());
    let tensors = Tensor::read_safetensors(format!("{folder}/soft_topk.safetensors")).unwrap();
    let find = |name: String| {
        tensors.iter().find(|(key, _)| *key == name).map(|(_, tensor)| tensor.shallow_clone())
    };
    let cases = (0..).map_while(|i| find(format!("{i:02}.x")).map(|x| (format!("{i:02}"), x)));
    let mut n_cases = 0;
    for (case, x) in cases {
        let get = |key: &str| find(format!("{case}.{key}")).unwrap();
        let inputs = [x, get("k"), get("alpha").reshape([] as [i64; 0])];
        assert_same(Form::Weights, &inputs, &get("v"), 1e-10);
        assert_same(Form::Logarithms, &inputs, &get("v"), 1e-9);
        n_cases += 1;
    }
    assert!(n_cases > 0);
}

#[test]
fn random_cases_agree_with_the_engine() {
    tch::manual_seed(3);
    let double = (Kind::Double, Device::Cpu);
    for alpha in [1e-6, 1e-4, 1e-2, 1.0, 1e3] {
        for n in [2, 3, 100, 2000] {
            let x = Tensor::randn([5, n], double).relu();
            let k = Tensor::rand([5], double) * (n as f64 * 0.98) + 0.01 * n as f64;
            let v = Tensor::randn([5, n], double);
            let inputs = [x, k, Tensor::from(alpha)];
            assert_same(Form::Weights, &inputs, &v, 1e-8);
        }
    }
}

#[test]
fn single_precision_agrees_with_the_engine() {
    tch::manual_seed(4);
    let single = (Kind::Float, Device::Cpu);
    for alpha in [1e-4_f32, 1e-2, 1.0] {
        let x = Tensor::randn([4, 3000], single).relu();
        let k = Tensor::rand([4], single) * 100 + 3;
        let alpha = Tensor::from(alpha);
        let one = apply(Aten { form: Form::Weights, domain: Domain::Checked }, &[&x, &k, &alpha])
            .unwrap();
        let other = apply(Cpu::new(Form::Weights), &[&x, &k, &alpha]).unwrap();
        assert!((one - other).abs().max().double_value(&[]) < 2e-6);
    }
}

/// p and dp/dk of rows over the whole domain, against numbers of 700 digits.
#[test]
fn rows_over_the_whole_domain_are_right() {
    let numbers = |text: &str| -> Vec<f64> {
        text.split(' ').map(|number| number.parse().unwrap()).collect()
    };
    for line in include_str!("../../../testdata/domain/domain.tsv").lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let (kind, weight) =
            if fields[0] == "f32" { (Kind::Float, 1e-5) } else { (Kind::Double, 1e-9) };
        let tensor = |i: usize| Tensor::from_slice(&numbers(fields[i])).to_kind(kind);
        let x = tensor(3).unsqueeze(0);
        let inputs = [x.shallow_clone(), tensor(1), tensor(2).reshape([] as [i64; 0])];
        let (p, shares) = (numbers(fields[4]), numbers(fields[6]));
        let k = numbers(fields[1])[0];
        for (place, share) in shares.iter().enumerate() {
            let v = x.zeros_like();
            let _ = v.get(0).get(place as i64).fill_(1.0);
            let [out, grad_x, grad_k, ..] = &run(true, Form::Weights, &inputs, &v)[..] else {
                panic!("four results");
            };
            let got = grad_k.double_value(&[0]);
            assert!((got - share).abs() <= weight, "{got} instead of {share}: {line}");
            assert!(bool::try_from(grad_x.isfinite().all()).unwrap(), "{line}");
            for (i, expected) in p.iter().enumerate() {
                let got = out.double_value(&[0, i as i64]);
                let off = (got - expected).abs() / k.min(1.0);
                assert!(off <= weight, "{got:e} instead of {expected:e}: {line}");
            }
        }
    }
}

#[test]
fn thousands_of_far_entries_do_not_move_the_threshold() {
    for alpha in [1e-14, 1e-15, 1e-16, 1e-17, 1e-30, 1e-300] {
        let x = Tensor::from_slice(&[&[3.0, 2.5, 1.0, 1.5][..], &[0.0; 20_000]].concat());
        let inputs = [x.unsqueeze(0), Tensor::from_slice(&[2.5]), Tensor::from(alpha)];
        let v = Tensor::ones([1, 20_004], (Kind::Double, Device::Cpu));
        assert_same(Form::Weights, &inputs, &v, 1e-9);
    }
}

#[test]
fn a_budget_of_whole_entries_across_a_gap() {
    let x = Tensor::from_slice2(&[[5.0, 9.0, 1.0, 0.0]]);
    let inputs = [x, Tensor::from_slice(&[2.0]), Tensor::from(1e-5)];
    let v = Tensor::from_slice2(&[[1.0, 2.0, 3.0, 4.0]]);
    assert_same(Form::Weights, &inputs, &v, 1e-9);
    assert_same(Form::Logarithms, &inputs, &v, 1e-9);
    // The next entry on either side has half of the derivative.
    assert!((run(true, Form::Weights, &inputs, &v)[2].double_value(&[0]) - 2.0).abs() < 1e-9);
}

#[test]
fn gradients_agree_with_finite_differences() {
    tch::manual_seed(5);
    let double = (Kind::Double, Device::Cpu);
    let x = Tensor::randn([3, 7], double).set_requires_grad(true);
    let k = (Tensor::rand([3], double) * 4 + 1).set_requires_grad(true);
    let alpha = Tensor::from(0.8).set_requires_grad(true);
    let inputs = [x, k, alpha];
    for form in [Form::Weights, Form::Logarithms] {
        for aten in [true, false] {
            let f = |i: &[Tensor]| {
                if aten {
                    let domain = Domain::Checked;
                    tch_autograd::apply(Aten { form, domain }, &[&i[0], &i[1], &i[2]])
                } else {
                    tch_autograd::apply(Cpu::new(form), &[&i[0], &i[1], &i[2]])
                }
            };
            gradcheck(f, &inputs, GradcheckOptions::default()).unwrap();
        }
    }
}
