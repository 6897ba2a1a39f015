//! Multi-head attention over whole sequences.

use tch::{Device, Kind, Tensor};

/// Which positions a position attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mask {
    /// All.
    Full,
    /// Itself and those before it.
    Causal,
    /// Itself and those before it, this many at most.
    Window(i64),
}

/// softmax(c·tanh(s·q kᵀ / c)) v, where c is a cap that few families have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) mask: Mask,
    /// s.
    pub(crate) scale: f64,
    /// c.
    pub(crate) softcap: Option<f64>,
}

impl Attention {
    /// Keys and values may have fewer heads than queries: each then serves as many queries in turn.
    ///
    /// # Shapes
    /// Queries `[batch, positions, heads, head_dim]`, keys and values
    /// `[batch, positions, kv_heads, head_dim]`; returns `[batch, positions, heads · head_dim]`.
    pub(crate) fn forward(&self, queries: &Tensor, keys: &Tensor, values: &Tensor) -> Tensor {
        let (batch, positions, heads, head_dim) =
            queries.size4().expect("queries have four dimensions");
        let shared = heads / keys.size()[2];
        // On the CPU libtorch's kernel shares heads itself.
        let is_fused = queries.device() == Device::Cpu && self.softcap.is_none();
        let copies = if is_fused { 1 } else { shared };
        let q = queries.transpose(1, 2);
        let (k, v) = (by_head(keys, copies), by_head(values, copies));
        let mask = match self.mask {
            Mask::Window(window) if window < positions => Mask::Window(window),
            Mask::Window(_) => Mask::Causal,
            other => other,
        };
        let causal = mask == Mask::Causal;
        let bias = match mask {
            Mask::Window(_) => Some(bias(mask, positions, queries)),
            Mask::Causal if self.softcap.is_some() => Some(bias(mask, positions, queries)),
            Mask::Causal | Mask::Full => None,
        };
        let out = match self.softcap {
            None => Tensor::scaled_dot_product_attention(
                &q,
                &k,
                &v,
                bias,
                0.0,
                causal,
                self.scale,
                is_fused && shared > 1,
            ),
            Some(cap) => {
                let scores = q.matmul(&k.transpose(2, 3)) * (self.scale / cap);
                let scores = scores.tanh() * cap;
                let scores = match bias {
                    Some(bias) => scores + bias,
                    None => scores,
                };
                scores.softmax(-1, q.kind()).matmul(&v)
            }
        };
        out.transpose(1, 2).reshape([batch, positions, heads * head_dim])
    }
}

/// `[batch, positions, kv_heads, head_dim]` to `[batch, kv_heads · shared, positions, head_dim]`.
fn by_head(x: &Tensor, shared: i64) -> Tensor {
    let x = x.transpose(1, 2);
    if shared == 1 {
        return x;
    }
    let (batch, kv_heads, positions, head_dim) = x.size4().expect("keys have four dimensions");
    x.unsqueeze(2).expand([batch, kv_heads, shared, positions, head_dim], false).reshape([
        batch,
        kv_heads * shared,
        positions,
        head_dim,
    ])
}

/// 0 where a position (row) attends to another (column), −∞ where it does not.
fn bias(mask: Mask, positions: i64, like: &Tensor) -> Tensor {
    let ones = Tensor::ones([positions, positions], (Kind::Bool, like.device()));
    let seen = match mask {
        Mask::Full => ones,
        Mask::Causal => ones.tril(0),
        Mask::Window(window) => ones.tril(0).triu(1 - window),
    };
    Tensor::zeros([positions, positions], (like.kind(), like.device()))
        .masked_fill(&seen.logical_not(), f64::NEG_INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in f64, one query at a time.
    fn naive(attention: Attention, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let (_, positions, heads, head_dim) = q.size4().unwrap();
        let shared = heads / k.size()[2];
        let mut rows = Vec::new();
        for at in 0..positions {
            for head in 0..heads {
                let (first, last) = match attention.mask {
                    Mask::Full => (0, positions),
                    Mask::Causal => (0, at + 1),
                    Mask::Window(window) => ((at + 1 - window).max(0), at + 1),
                };
                let query = q.select(1, at).select(1, head).view([head_dim, 1]);
                let keys = k.select(2, head / shared).get(0).narrow(0, first, last - first);
                let values = v.select(2, head / shared).get(0).narrow(0, first, last - first);
                let mut scores = keys.matmul(&query) * attention.scale;
                if let Some(cap) = attention.softcap {
                    scores = (scores / cap).tanh() * cap;
                }
                let shares = scores.softmax(0, Kind::Double);
                rows.push((values * shares).sum_dim_intlist(0, false, Kind::Double));
            }
        }
        Tensor::cat(&rows, 0).view([1, positions, heads * head_dim])
    }

    #[test]
    fn every_mask_cap_and_head_sharing_agrees_with_the_definition() {
        tch::manual_seed(0);
        let random = |heads| Tensor::randn([1, 9, heads, 4], (Kind::Double, Device::Cpu));
        for kv_heads in [1, 2, 4] {
            let (q, k, v) = (random(4), random(kv_heads), random(kv_heads));
            for mask in [Mask::Full, Mask::Causal, Mask::Window(3), Mask::Window(20)] {
                for softcap in [None, Some(0.7)] {
                    let attention = Attention { mask, scale: 0.4, softcap };
                    let got = attention.forward(&q, &k, &v);
                    let error = (got - naive(attention, &q, &k, &v)).abs().max().double_value(&[]);
                    assert!(error < 1e-12, "{attention:?}, {kv_heads} kv heads: {error}");
                }
            }
        }
    }
}
