//! Writes to tensors of which there are views: each by one operation of libtorch.

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};
use tch_autograd::{Element, View, view, view_mut};

const N: i64 = 6;

type Write = (&'static str, fn(&mut Tensor));

macro_rules! writes {
    ($(|$t:ident| $write:expr),* $(,)?) => {
        [$((stringify!($write), (|$t| drop($write)) as fn(&mut Tensor))),*]
    };
}

/// A symmetric, positive definite matrix `[6, 6]`.
fn matrix() -> Tensor {
    let x = Tensor::arange(N * N, (Kind::Float, Device::Cpu)).reshape([N, N]) * 0.01;
    &x + x.tr() + Tensor::eye(N, (Kind::Float, Device::Cpu)) * 9.0
}

fn ones() -> Tensor {
    Tensor::ones([N, N], (Kind::Float, Device::Cpu))
}

fn at() -> Tensor {
    Tensor::from_slice(&[0_i64, 2, 5])
}

fn rows() -> Tensor {
    ones().narrow(0, 0, 3)
}

fn mask() -> Tensor {
    matrix().gt(1.0)
}

fn whole() -> Tensor {
    Tensor::empty([0], (Kind::Int64, Device::Cpu))
}

/// In place, by a handle.
fn in_place() -> Vec<Write> {
    writes![
        |t| t.fill_(2.0),
        |t| t.fill_tensor_(&Tensor::from(2.0_f32)),
        |t| t.zero_(),
        |t| t.f_copy_(&ones()),
        |t| t.g_add_(&ones()),
        |t| t.g_sub_scalar_(1.0),
        |t| t.g_mul_(&matrix()),
        |t| t.g_div_scalar_(3.0),
        |t| t.pow_(2.0),
        |t| t.exp_(),
        |t| t.sqrt_(),
        |t| t.sigmoid_(),
        |t| t.neg_(),
        |t| t.clamp_(0.0, 1.0),
        |t| t.threshold_(1.0, 0.5),
        |t| t.round_(),
        |t| t.nan_to_num_(0.0, 0.0, 0.0).g_add_scalar_(1.0),
        |t| t.lerp_(&ones(), 0.5),
        |t| t.addcmul_(&ones(), &ones()),
        |t| t.addcdiv_(&ones(), &ones()),
        |t| t.addmm_(&ones(), &matrix()),
        |t| t.addr_(&ones().get(0), &ones().get(1)),
        |t| t.get(1).addmv_(&matrix(), &ones().get(0)),
        |t| t.view([1, N, N]).baddbmm_(&ones().unsqueeze(0), &matrix().unsqueeze(0)),
        |t| t.cumsum_(1, None),
        |t| t.tril_(0),
        |t| t.fill_diagonal_(1.0, false),
        |t| t.index_add_(0, &at(), &rows()),
        |t| t.index_copy_(0, &at(), &rows()),
        |t| t.index_fill_(0, &at(), 1.0),
        |t| t.index_put_(&[Some(at())], &rows(), true),
        |t| t.put_(&at(), &ones().get(0).narrow(0, 0, 3), false),
        |t| t.masked_fill_(&mask(), 1.0),
        |t| t.masked_scatter_(&mask(), &ones()),
        |t| t.scatter_(0, &at().unsqueeze(0), &ones()),
        |t| t.scatter_add_(0, &at().unsqueeze(0), &ones()),
        |t| t.embedding_renorm_(&at(), 1.0, 2.0),
        |t| t.renorm_(2.0, 0, 1.0),
        |t| t.logical_not_(),
        |t| t.dropout_(1.0, true),
    ]
    .into()
}

/// As the result of another operation, or by another view of the memory.
fn as_result() -> Vec<Write> {
    writes![
        |t| matrix().add_out(t, &ones()),
        |t| matrix().mm_out(t, &matrix()),
        |t| matrix().matmul_out(t, &matrix()),
        |t| matrix().addmm_out(t, &ones(), &matrix()),
        |t| matrix().unsqueeze(0).bmm_out(&t.view([1, N, N]), &matrix().unsqueeze(0)),
        |t| ones().cumsum_out(t, 0, None),
        |t| matrix().neg().sort_values(t, &whole(), 1, false),
        |t| matrix().neg().topk_values(t, &whole(), N, 1, true, true),
        |t| Tensor::cat_out(t, &[rows(), rows()], 0),
        |t| Tensor::stack_out(&t.view([2, 3, N]), &[rows(), rows()], 0),
        |t| ones().index_select_out(t, 0, &Tensor::from_slice(&[0_i64, 1, 0, 1, 0, 1])),
        |t| ones().gather_out(t, 0, &mask().to_kind(Kind::Int64), false),
        |t| ones().where_self_out(t, &mask(), &matrix()),
        |t| ones().softmax_int_out(t, 1, None),
        |t| ones().log_softmax_int_out(t, 1, None),
        |t| ones().tril_out(t, 0),
        |t| ones().sum_intlist_out(&t.get(0), 0, false, None),
        |t| ones().mean_out(&t.get(0), 0, false, None),
        |t| ones().max_dim_max(&t.get(0), &whole(), 0, false),
        |t| matrix().kthvalue_values(&t.get(0), &whole(), 2, 0, false),
        |t| ones().upsample_of(t),
        |t| Tensor::eye_out(t, N),
        |t| Tensor::linspace_out(&t.view(-1), 0.0, 1.0, N * N),
        |t| Tensor::linalg_inv_out(t, &matrix()),
        |t| matrix().linalg_cholesky_out(t, false),
        |t| Tensor::linalg_solve_out(t, &matrix(), &ones(), true),
        |t| Tensor::linalg_qr_out(&ones().copy(), t, &matrix(), "reduced"),
        |t| matrix().linalg_eigh_eigvals(&t.get(0), &ones().copy(), "L"),
        |t| ones().fft_irfft_out(t, N, 1, "backward"),
        |t| train_batch_norm(t),
        |t| t.narrow(0, 2, 3).fill_(1.0),
        |t| t.select(1, 3).fill_(1.0),
        |t| t.slice(1, 0, N, 2).fill_(1.0),
        |t| t.tr().fill_(1.0),
        |t| t.detach().fill_(1.0),
        |t| t.view_dtype(Kind::Int).fill_(7),
        |t| t.as_strided([3], [2], 1).fill_(1.0),
        |t| t.get(3).f_copy_(&ones().get(0)),
    ]
    .into()
}

/// Drawn at random.
fn random() -> Vec<Write> {
    writes![
        |t| t.uniform_(20.0, 30.0),
        |t| t.normal_(50.0, 1.0),
        |t| t.random_from_(100, 200),
        |t| t.bernoulli_float_(0.5),
        |t| t.exponential_(1.0),
        |t| t.cauchy_(100.0, 0.1),
        |t| t.log_normal_(1.0, 1.0),
        |t| t.geometric_(0.5),
        |t| Tensor::randn_out(t, [N, N]),
    ]
    .into()
}

/// The moving mean of a normalisation that is trained.
fn train_batch_norm(t: &Tensor) -> Tensor {
    let (mean, variance) = (t.get(0), t.get(1));
    let absent: Option<&Tensor> = None;
    matrix().batch_norm(absent, absent, Some(&mean), Some(&variance), true, 0.5, 1e-5, false)
}

trait UpsampleOf {
    fn upsample_of(&self, t: &Tensor) -> Tensor;
}

impl UpsampleOf for Tensor {
    /// Nine of the elements, each four times.
    fn upsample_of(&self, t: &Tensor) -> Tensor {
        let few = self.narrow(0, 0, 3).narrow(1, 0, 3).contiguous().view([1, 1, 3, 3]);
        few.upsample_nearest2d_out(&t.view([1, 1, N, N]), [N, N], None, None)
    }
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let numbers: Vec<f32> = tensor.contiguous().flatten(0, -1).try_into().unwrap();
    numbers.into_iter().map(f32::to_bits).collect()
}

fn bits_of(seen: &View<f32>) -> Vec<u32> {
    seen.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn no_operation_writes_into_a_view() {
    let _guard = tch::no_grad_guard();
    let start = bits(&matrix());
    for (name, write) in [in_place(), as_result(), random()].concat() {
        let tensor = matrix();
        let seen = view::<f32>(&tensor).unwrap();
        write(&mut tensor.shallow_clone());
        assert_eq!(bits_of(&seen), start, "{name} is seen in a view");
        assert_ne!(bits(&tensor), start, "{name} writes nothing");
        let after = bits(&tensor);
        drop(seen);
        assert_eq!(bits(&tensor), after, "{name} is undone by the end of the view");
    }
}

#[test]
fn operations_do_under_a_view_what_they_do_without() {
    let _guard = tch::no_grad_guard();
    for (name, write) in [in_place(), as_result()].concat() {
        let (plain, tensor) = (matrix(), matrix());
        write(&mut plain.shallow_clone());
        let seen = view::<f32>(&tensor).unwrap();
        write(&mut tensor.shallow_clone());
        drop(seen);
        assert!(tensor.allclose(&plain, 1e-6, 1e-6, true), "{name}");
    }
}

#[test]
fn elements_of_every_type_stay_what_they_were() {
    fn check<T: Element + PartialEq + std::fmt::Debug>(before: [T; 3], after: [T; 3]) {
        let mut tensor = Tensor::from_slice(&[2_i64, 3, 5]).to_kind(T::KIND);
        let alias = tensor.shallow_clone();
        let seen = view::<T>(&tensor).unwrap();
        let _ = alias.get(1).fill_(1.0);
        let _ = tensor.g_mul_scalar_(7_i64);
        assert_eq!(*seen, before);
        assert_eq!(*view::<T>(&alias).unwrap(), after);
        drop((tensor, alias));
        assert_eq!(*seen, before);
    }
    check::<f32>([2.0, 3.0, 5.0], [14.0, 7.0, 35.0]);
    check::<f64>([2.0, 3.0, 5.0], [14.0, 7.0, 35.0]);
    let halves = |numbers: [f32; 3]| numbers.map(f16::from_f32);
    check::<f16>(halves([2.0, 3.0, 5.0]), halves([14.0, 7.0, 35.0]));
    let halves = |numbers: [f32; 3]| numbers.map(bf16::from_f32);
    check::<bf16>(halves([2.0, 3.0, 5.0]), halves([14.0, 7.0, 35.0]));
    check::<i64>([2, 3, 5], [14, 7, 35]);
    check::<i32>([2, 3, 5], [14, 7, 35]);
    check::<i16>([2, 3, 5], [14, 7, 35]);
    check::<i8>([2, 3, 5], [14, 7, 35]);
    check::<u8>([2, 3, 5], [14, 7, 35]);
}

#[test]
fn views_of_clones_that_libtorch_makes_lazily_are_apart() {
    let first = matrix();
    let mut second = first.internal_lazy_clone();
    let start = bits(&first);
    let views = [&first, &second].map(|t| view::<f32>(t).unwrap());
    let _ = first.shallow_clone().fill_(1.0);
    assert_eq!(bits(&second), start);
    let _ = second.shallow_clone().fill_(2.0);
    assert_eq!(bits(&first), bits(&ones()));
    assert!(views.iter().all(|seen| bits_of(seen) == start));
    drop(views);

    let mut third = second.internal_lazy_clone();
    view_mut::<f32>(&mut third).unwrap().fill(3.0);
    assert_eq!(bits(&second), bits(&(ones() * 2.0)));
    view_mut::<f32>(&mut second).unwrap().fill(4.0);
    assert_eq!(bits(&third), bits(&(ones() * 3.0)));
}

#[test]
fn threads_read_a_view_while_its_tensor_is_written_and_dropped() {
    let tensor = matrix();
    let start = bits(&tensor);
    let seen = view::<f32>(&tensor).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    assert_eq!(bits_of(&seen), start);
                }
            });
        }
        scope.spawn(move || {
            let mut tensor = tensor;
            for i in 0..2000 {
                tensor = tensor.fill_(f64::from(i));
            }
        });
    });
    assert_eq!(bits_of(&seen), start);
}

#[test]
fn empty_tensors_may_grow_under_a_view() {
    let mut empty = Tensor::zeros([0, 4], (Kind::Float, Device::Cpu));
    let seen = view::<f32>(&empty).unwrap();
    let _ = empty.resize_([2, 4]).fill_(1.0);
    assert!(seen.is_empty());
    assert_eq!(*view::<f32>(&empty).unwrap(), [1.0; 8]);
    let part = empty.narrow(0, 2, 0);
    let none = view::<f32>(&part).unwrap();
    let _ = empty.fill_(2.0);
    assert!(none.is_empty());
}

/// Set in the process that lacks memory.
#[cfg(unix)]
const LACKS_MEMORY: &str = "TCH_AUTOGRAD_TEST_LACKS_MEMORY";

/// libtorch alone would free what the view shows, at the second attempt to write.
#[cfg(unix)]
#[test]
fn without_memory_for_a_copy_a_write_ends_the_process() {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    const NAME: &str = "writes::without_memory_for_a_copy_a_write_ends_the_process";
    if std::env::var_os(LACKS_MEMORY).is_some() {
        let tensor = Tensor::empty([4 << 30], (Kind::Uint8, Device::Cpu));
        let seen = view::<u8>(&tensor).unwrap();
        eprintln!("a view of {} elements", seen.len());
        // Without a scalar, whose end in tch would panic over the error of the operation.
        let _ = tensor.get(0).f_zero_();
        let _ = tensor.get(0).f_zero_();
        drop(tensor);
        eprintln!("written, and the view has {}", seen[0]);
        return;
    }
    // Room for one tensor of 4 GiB, which takes no memory until it is written to, and not for two.
    let limits = "ulimit -c 0; ulimit -v 7340032; exec \"$0\" --exact \"$1\" --nocapture";
    let mut shell = Command::new("sh");
    shell.args(["-c", limits]).arg(std::env::current_exe().unwrap()).arg(NAME);
    let output = shell.env(LACKS_MEMORY, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("a view of 4294967296 elements"), "{text}");
    assert!(text.contains("can't allocate memory"), "{text}");
    // By an exception that nobody catches: SIGABRT, with nothing run before it.
    assert!(text.contains("terminate called") && !text.contains("written"), "{text}");
    assert_eq!(output.status.signal(), Some(6), "{text}");
}
