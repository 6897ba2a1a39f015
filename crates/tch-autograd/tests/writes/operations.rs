//! Operations of libtorch that write into a tensor.

use tch::{Device, Kind, Tensor};

const N: i64 = 6;

pub(super) type Write = (&'static str, fn(&mut Tensor));

macro_rules! writes {
    ($(|$t:ident| $write:expr),* $(,)?) => {
        [$((stringify!($write), (|$t| drop($write)) as fn(&mut Tensor))),*]
    };
}

/// A symmetric, positive definite matrix `[6, 6]`.
pub(super) fn matrix() -> Tensor {
    let x = Tensor::arange(N * N, (Kind::Float, Device::Cpu)).reshape([N, N]) * 0.01;
    &x + x.tr() + Tensor::eye(N, (Kind::Float, Device::Cpu)) * 9.0
}

pub(super) fn ones() -> Tensor {
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
pub(super) fn in_place() -> Vec<Write> {
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
pub(super) fn as_result() -> Vec<Write> {
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
pub(super) fn random() -> Vec<Write> {
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
