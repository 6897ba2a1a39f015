//! What attention keeps of the positions before those that are computed.

use tch::Tensor;

/// Keys and values of the first positions of texts: what comes after them is computed without computing
/// them again ([`HostModel::prefix_after`](crate::HostModel::prefix_after)).
///
/// Positions that are computed after it lie behind its length, each time anew, until [`Past::keep`]
/// makes them part of it.
#[derive(Debug, Default)]
pub struct Past {
    length: i64,
    is_kept: bool,
    /// Of each layer, `[batch, positions, kv_heads, head_dim]`; none of one that was not computed.
    layers: Vec<Option<[Tensor; 2]>>,
}

impl Past {
    /// Creates one of no positions.
    pub fn new() -> Self {
        Self { is_kept: true, ..Self::default() }
    }

    /// For passes of which nothing is kept.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Positions that it is of.
    pub fn length(&self) -> usize {
        self.length.unsigned_abs() as usize
    }

    /// Makes the first `n` positions its own; what was computed behind them is not used again.
    pub fn keep(&mut self, n: usize) {
        self.length = n as i64;
    }

    /// That of one of its texts, counted from 0.
    ///
    /// # Panics
    /// If it has fewer texts.
    #[must_use]
    pub fn of_text(&self, text: usize) -> Self {
        let of = |x: &Tensor| x.narrow(0, text as i64, 1);
        let layers =
            self.layers.iter().map(|layer| layer.as_ref().map(|both| both.each_ref().map(of)));
        Self { layers: layers.collect(), ..*self }
    }

    /// The same positions of so many equal texts, from layer `first` on.
    ///
    /// # Panics
    /// If it is of more than one text.
    #[must_use]
    pub fn expand(&self, n_texts: usize, first: usize) -> Self {
        let expand = |x: &Tensor| {
            let size = x.size();
            assert_eq!(size[0], 1, "one text");
            x.narrow(1, 0, self.length).expand([n_texts as i64, -1, -1, -1], false)
        };
        let layer = |(i, of): (usize, &Option<[Tensor; 2]>)| {
            of.as_ref().filter(|_| i >= first).map(|of| of.each_ref().map(expand))
        };
        Self { layers: self.layers.iter().enumerate().map(layer).collect(), ..*self }
    }

    /// Keys and values of its positions and of those that are computed now.
    ///
    /// # Shapes
    /// `[batch, positions, kv_heads, head_dim]`.
    pub(crate) fn join(&mut self, layer: usize, now: [Tensor; 2]) -> [Tensor; 2] {
        if !self.is_kept {
            return now;
        }
        if self.layers.len() <= layer {
            self.layers.resize_with(layer + 1, || None);
        }
        let joined = match &self.layers[layer] {
            Some(before) if self.length > 0 => {
                let join =
                    |i: usize| Tensor::cat(&[&before[i].narrow(1, 0, self.length), &now[i]], 1);
                [join(0), join(1)]
            }
            // Parts of a projection, which would be held whole.
            _ => now.map(|x| x.contiguous()),
        };
        self.layers[layer] = Some(joined.each_ref().map(Tensor::shallow_clone));
        joined
    }

    /// Texts and positions of the layers of a range, the least of each; none of a layer that was not
    /// computed.
    pub(crate) fn of_layers(&self, layers: std::ops::Range<usize>) -> Option<Vec<[i64; 2]>> {
        let sizes = layers.map(|layer| {
            let [keys, _] = self.layers.get(layer)?.as_ref()?;
            Some([keys.size()[0], keys.size()[1]])
        });
        sizes.collect()
    }
}
