//! The operator by ATen operations, for tensors on any device.
//!
//! Rows are sorted; LapSum's two prefix sums are running log-sum-exps from both ends; Σp at each
//! entry tells between which two the threshold lies, and there it has a closed form, relative to these
//! two as in the engine's `gap`. All of it is computed in `f64`.

use tch::{Kind, Tensor};
use tch_autograd::{BackwardContext, BoxError, ForwardContext, Function};

use super::form::Form;
use super::gap::Gap;
use crate::check::{check_alpha, least_budget};
use crate::error::{Error, Result};

/// Weights, or their logarithms, of rows x `[rows, n]`, given k `[rows]` and alpha `[]`.
#[derive(Debug)]
pub(crate) struct Aten {
    pub(crate) form: Form,
}

impl Function for Aten {
    const NAME: &'static str = "SoftTopK";

    fn forward(
        &mut self,
        ctx: &mut ForwardContext,
        inputs: &[Tensor],
    ) -> std::result::Result<Vec<Tensor>, BoxError> {
        let (x, kind) = (&inputs[0], inputs[1].kind());
        check(x, &inputs[1], &inputs[2])?;
        let (k, alpha) = (inputs[1].f_to_kind(Kind::Double)?, inputs[2].f_to_kind(Kind::Double)?);
        let gap = Gap::find(&x.f_to_kind(Kind::Double)?, &k, &alpha)?;
        let (above, further) = gap.place(x, &alpha)?;
        let size = &gap.nearest + further;
        let tail = size.f_neg()?.f_exp()? * 0.5;
        let out = match self.form {
            Form::Weights => (tail.f_neg()? + 1.0).f_where_self(&above, &tail)?,
            Form::Logarithms => {
                let below = size.f_neg()? - std::f64::consts::LN_2;
                tail.f_neg()?.f_log1p()?.f_where_self(&above, &below)?
            }
        };
        ctx.save_for_backward(&[x, &alpha]);
        ctx.save_for_backward(&gap.tensors());
        Ok(vec![out.f_to_kind(kind)?])
    }

    /// The closed form of the engine's `gradient` and `log` rooms.
    fn backward(
        &self,
        ctx: &BackwardContext,
        grad_outputs: &[Option<Tensor>],
    ) -> std::result::Result<Vec<Option<Tensor>>, BoxError> {
        let Some(v) = &grad_outputs[0] else {
            return Ok(vec![None, None, None]);
        };
        let [x, alpha, ends @ ..] = ctx.saved() else {
            return Err("x and alpha were saved".into());
        };
        let gap = Gap::from_tensors(ends).ok_or("the gap was saved")?;
        let (kind, v) = (v.kind(), v.f_to_kind(Kind::Double)?);
        let (above, further) = gap.place(x, alpha)?;
        let size = (&gap.nearest + &further).f_clamp_max(FARTHEST)?;
        let z = size.f_where_self(&above, &size.f_neg()?)?;
        // Tails relative to that of the nearest entry, so that their sum does not vanish.
        let tail = further.f_neg()?.f_exp()? * 0.5;
        let damping = gap.nearest.f_neg()?.f_exp()?;
        let sum = |t: &Tensor| t.f_sum_dim_intlist(-1, true, Kind::Double);
        let total = sum(&tail)?;
        let mean = sum(&(&tail * &z))? / &total;
        // d(output)/dz·v, what of it each tail takes back through the threshold, and dp/dk·v.
        let (direct, share, q) = match self.form {
            Form::Weights => {
                let q = sum(&(&tail * &v))? / &total;
                (&tail * &damping * &v, &q * &damping, q)
            }
            Form::Logarithms => {
                let t = &tail * &damping;
                let ratio = (&t / (t.f_neg()? + 1.0)).f_where_self(&above, &t.f_ones_like()?)?;
                let direct = ratio * &v;
                let share = sum(&direct)? / &total;
                // In a gap so wide that its tails underflow, ln p is infinitely steep in k.
                let none = share.f_eq(0.0)?;
                let q = share.f_zeros_like()?.f_where_self(&none, &(&share / &damping))?;
                (direct, share, q)
            }
        };
        let grad_x = (&direct - &tail * &share) / alpha;
        let grad_k = q.f_squeeze_dim(-1)?;
        let grad_alpha = (&direct * (mean - &z)).f_sum(Kind::Double)? / alpha;
        Ok(vec![
            Some(grad_x.f_to_kind(x.kind())?),
            Some(grad_k.f_to_kind(kind)?),
            Some(grad_alpha.f_to_kind(kind)?),
        ])
    }
}

/// Entries further from the threshold, in units of alpha, are so far for the gradient of alpha.
const FARTHEST: f64 = 1e300;
/// The domain, checked on the device.
fn check(x: &Tensor, k: &Tensor, alpha: &Tensor) -> Result<()> {
    let n = x.size()[1];
    if n < 2 || u32::try_from(n).is_err() {
        return Err(Error::RowLength { n: n as usize });
    }
    let value = alpha.f_double_value(&[])?;
    let double = alpha.kind() == Kind::Double;
    if double {
        check_alpha::<f64>(value)?
    } else {
        check_alpha::<f32>(value)?
    }
    let inside = k.f_greater(0.0)?.f_logical_and(&k.f_less(n as f64)?)?;
    if let Some(row) = super::hard::first_true(&inside.f_logical_not()?)? {
        let k = k.f_double_value(&[row])?;
        return Err(Error::Budget { row: row as usize, k, n: n as usize });
    }
    let n = n as usize;
    let least = if double { least_budget::<f64>(n) } else { least_budget::<f32>(n) };
    if let Some(row) = super::hard::first_true(&k.f_to_kind(Kind::Double)?.f_less(least)?)? {
        let k = k.f_double_value(&[row])?;
        return Err(Error::SmallBudget { row: row as usize, k, least });
    }
    super::hard::refuse_infinite(x)
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};
    use tch_autograd::{GradcheckOptions, gradcheck};

    use super::Aten;
    use crate::tensor::cpu::Cpu;
    use crate::tensor::form::Form;
    use crate::tensor::soft::apply;

    /// The output and the gradients for x, k and alpha, given an incoming gradient.
    fn run(aten: bool, form: Form, inputs: &[Tensor; 3], v: &Tensor) -> Vec<Tensor> {
        let leaves = inputs.each_ref().map(|t| t.detach().copy().set_requires_grad(true));
        let [x, k, alpha] = &leaves;
        let out = if aten {
            apply(Aten { form }, &[x, k, alpha])
        } else {
            apply(Cpu::new(form), &[x, k, alpha])
        };
        let out = out.unwrap();
        (&out * v).sum(out.kind()).backward();
        let grads = leaves.iter().map(Tensor::grad);
        [out.detach()].into_iter().chain(grads).collect()
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
            let one = apply(Aten { form: Form::Weights }, &[&x, &k, &alpha]).unwrap();
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
        for line in include_str!("../../testdata/domain/domain.tsv").lines() {
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
                        tch_autograd::apply(Aten { form }, &[&i[0], &i[1], &i[2]])
                    } else {
                        tch_autograd::apply(Cpu::new(form), &[&i[0], &i[1], &i[2]])
                    }
                };
                gradcheck(f, &inputs, GradcheckOptions::default()).unwrap();
            }
        }
    }
}
