//! Hard selections as masks: the k largest of each row, of rows with their own k, of a batch.

use tch::Tensor;
use tch_autograd::read;

/// 1 at the `k` largest entries of each row, 0 elsewhere.
///
/// # Shapes
/// z `[batch, n]`, 0 ≤ k ≤ n; returns `[batch, n]` of z's kind.
pub fn top_k_rows_mask(z: &Tensor, k: i64) -> Tensor {
    let (_, indices) = z.detach().topk(k, -1, true, false);
    z.zeros_like().scatter_value(-1, &indices, 1.0)
}

/// 1 at the `k[b]` largest entries of row b, 0 elsewhere.
///
/// # Shapes
/// z `[batch, n]`, k `[batch]` of whole numbers in 0..=n; returns `[batch, n]` of z's kind.
pub fn top_k_of_rows_mask(z: &Tensor, k: &Tensor) -> Tensor {
    top_at_most_mask(z, k, z.size()[1])
}

/// The same where no entry of k is above `most`, whatever its entries are: on a GPU their maximum
/// is not read.
pub(crate) fn top_at_most_mask(z: &Tensor, k: &Tensor, most: i64) -> Tensor {
    let k = k.detach();
    let widest = match k.numel() {
        0 => 0,
        _ if read::waits(k.device()) => most.min(z.size()[1]),
        _ => read::whole_number(&k.max()),
    };
    let (_, indices) = z.detach().topk(widest, -1, true, true);
    let rank = Tensor::arange(widest, (k.kind(), z.device()));
    let chosen = rank.unsqueeze(0).less_tensor(&k.unsqueeze(1)).to_kind(z.kind());
    z.zeros_like().scatter(-1, &indices, &chosen)
}

/// 1 at the `k` largest entries of the whole batch, 0 elsewhere.
///
/// # Shapes
/// z `[batch, n]`, 0 ≤ k ≤ batch·n; returns `[batch, n]` of z's kind.
pub fn top_k_of_batch_mask(z: &Tensor, k: i64) -> Tensor {
    let flat = z.detach().flatten(0, -1);
    let (_, indices) = flat.topk(k, -1, true, false);
    flat.zeros_like().scatter_value(-1, &indices, 1.0).view_as(z)
}

/// z where it exceeds `threshold`, 0 elsewhere.
pub(crate) fn above(z: &Tensor, threshold: &Tensor) -> Tensor {
    z * z.greater_tensor(threshold).to_kind(z.kind())
}
