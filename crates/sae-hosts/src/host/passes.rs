//! Passes through a host: up to a hook point, on from one, or whole.

use std::ops::ControlFlow;

use tch::Tensor;

use super::{HostModel, Prefix};
use crate::layers::Past;
use crate::{Error, HookKind, HookPoint, Result, families};

/// Sees every hook point of a pass in turn: the pass goes on with the tensor that it returns, or
/// breaks off with it.
type See<'a> = &'a mut dyn FnMut(HookPoint, Tensor) -> ControlFlow<Tensor, Tensor>;

impl HostModel {
    /// The activations at a hook point; nothing after it is computed.
    ///
    /// # Shapes
    /// Token ids `[batch, positions]` (i64), or pixels as [`crate::HostInput::Images`] has them in the
    /// host's kind, to `[batch, positions, d_model]`. The positions of an image are its patches by
    /// rows, after the class token if the family has one.
    ///
    /// # Errors
    /// [`Error::Input`] if the input has another shape, kind or device, or ids are outside the
    /// vocabulary; [`Error::HookLayer`] if the host has no such layer.
    pub fn activations(&self, input: &Tensor, hook: HookPoint) -> Result<Tensor> {
        Ok(self.prefix(input, hook)?.activations)
    }

    /// The activations at several hook points, in the order in which they are given, from one pass:
    /// to the bit those of single passes. Nothing after the last is computed.
    ///
    /// # Shapes
    /// As [`HostModel::activations`], of each hook point.
    ///
    /// # Errors
    /// As [`HostModel::activations`].
    pub fn activations_at(&self, input: &Tensor, hooks: &[HookPoint]) -> Result<Vec<Tensor>> {
        self.check_input(input)?;
        hooks.iter().try_for_each(|hook| hook.check(&self.info))?;
        let Some(last) = hooks.iter().max_by_key(|hook| hook.depth()) else { return Ok(vec![]) };
        let mut found: Vec<Option<Tensor>> = hooks.iter().map(|_| None).collect();
        let _ = tch::no_grad(|| {
            self.pass(input, &mut Past::none(), &mut |at, x| {
                for (place, _) in found.iter_mut().zip(hooks).filter(|(_, hook)| **hook == at) {
                    *place = Some(x.shallow_clone());
                }
                if at == *last { ControlFlow::Break(x) } else { ControlFlow::Continue(x) }
            })
        });
        Ok(found.into_iter().map(|x| x.expect("a pass shows all up to the last")).collect())
    }

    /// The embedding of each image: the family's pooled output, projected if the file holds a
    /// projection.
    ///
    /// # Shapes
    /// Pixels as [`crate::HostInput::Images`] has them to `[batch, size]`.
    ///
    /// # Errors
    /// [`Error::Input`], as [`HostModel::activations`], or if the host reads tokens.
    pub fn image_embeddings(&self, pixels: &Tensor) -> Result<Tensor> {
        self.check_vision()?;
        self.whole(pixels)
    }

    /// Goes on from a hook point with other activations, to the embedding of each image.
    ///
    /// # Shapes
    /// `[batch, positions, d_model]` to `[batch, size]`.
    ///
    /// # Errors
    /// [`Error::Input`], as [`HostModel::logits_from`], or if the host reads tokens.
    pub fn image_embeddings_from(&self, prefix: &Prefix, activations: &Tensor) -> Result<Tensor> {
        self.check_vision()?;
        self.go_on(prefix, activations)
    }

    /// The logits of the next token at each position.
    ///
    /// # Shapes
    /// Token ids `[batch, positions]` (i64) to `[batch, positions, vocabulary]`.
    ///
    /// # Errors
    /// [`Error::Input`], as [`HostModel::activations`].
    pub fn logits(&self, ids: &Tensor) -> Result<Tensor> {
        self.check_language()?;
        self.whole(ids)
    }

    /// The logits when `replace` has replaced the activations at a hook point.
    ///
    /// # Shapes
    /// Token ids `[batch, positions]` (i64) to `[batch, positions, vocabulary]`; `replace` gets
    /// and returns `[batch, positions, d_model]`.
    ///
    /// # Errors
    /// As [`HostModel::activations`]; [`Error::Splice`] if `replace` fails; [`Error::Input`] if
    /// what it returns has another shape, kind or device.
    pub fn logits_spliced(
        &self,
        ids: &Tensor,
        hook: HookPoint,
        replace: &mut dyn FnMut(Tensor) -> Result<Tensor, Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<Tensor> {
        self.check_language()?;
        let prefix = self.prefix(ids, hook)?;
        let activations = prefix.activations.shallow_clone();
        let replaced = tch::no_grad(|| replace(activations))
            .map_err(|source| Error::Splice { hook, source })?;
        self.logits_from(&prefix, &replaced)
    }

    /// Computes up to a hook point, to go on from there.
    ///
    /// # Errors
    /// As [`HostModel::activations`].
    pub fn prefix(&self, input: &Tensor, hook: HookPoint) -> Result<Prefix> {
        self.prefix_after(&mut Past::none(), input, hook)
    }

    /// As [`HostModel::prefix`], of tokens that come after those of `past`, which learns of them as far
    /// as the hook point.
    ///
    /// # Errors
    /// As [`HostModel::activations`]; [`Error::Input`] if `past` is not of as many texts, or not of all
    /// layers up to the hook point, or if there are more positions than the host has.
    pub fn prefix_after(&self, past: &mut Past, input: &Tensor, hook: HookPoint) -> Result<Prefix> {
        self.check_input(input)?;
        hook.check(&self.info)?;
        self.check_past(past, input, hook.layers_before())?;
        let of_layer = HookPoint::new(HookKind::ResidPre, hook.layer);
        let mut before = None;
        let activations = tch::no_grad(|| {
            either(self.pass(input, past, &mut |at, x| {
                if at == of_layer {
                    before = Some(x.shallow_clone());
                }
                if at == hook { ControlFlow::Break(x) } else { ControlFlow::Continue(x) }
            }))
        });
        let before = before.unwrap_or_else(|| input.shallow_clone());
        Ok(Prefix { hook, before, activations })
    }

    /// Goes on from a hook point with other activations, to the logits.
    ///
    /// # Shapes
    /// `[batch, positions, d_model]` to `[batch, positions, vocabulary]`.
    ///
    /// # Errors
    /// [`Error::Input`] if the activations do not have the shape, kind and device of the prefix's,
    /// or if the host reads images.
    pub fn logits_from(&self, prefix: &Prefix, activations: &Tensor) -> Result<Tensor> {
        self.check_language()?;
        self.go_on(prefix, activations)
    }

    /// As [`HostModel::logits_from`], of the last position alone: the token that comes next.
    ///
    /// # Shapes
    /// `[batch, positions, d_model]` to `[batch, vocabulary]`.
    ///
    /// # Errors
    /// As [`HostModel::logits_from`].
    pub fn next_logits_from(&self, prefix: &Prefix, activations: &Tensor) -> Result<Tensor> {
        self.next_logits_after(&mut Past::none(), prefix, activations)
    }

    /// As [`HostModel::next_logits_from`], of tokens that come after those of `past`, which learns of them
    /// from the hook point on.
    ///
    /// # Errors
    /// As [`HostModel::logits_from`] and [`HostModel::prefix_after`].
    pub fn next_logits_after(
        &self,
        past: &mut Past,
        prefix: &Prefix,
        activations: &Tensor,
    ) -> Result<Tensor> {
        self.check_language()?;
        let after = prefix.hook.first_layer_after()..self.info.n_layers;
        self.check_past(past, activations, after)?;
        let x = self.stream_from(past, prefix, activations)?;
        Ok(tch::no_grad(|| self.family.head(&x.narrow(1, x.size()[1] - 1, 1)).squeeze_dim(1)))
    }

    /// Goes on from a hook point with other activations, to what the head returns.
    fn go_on(&self, prefix: &Prefix, activations: &Tensor) -> Result<Tensor> {
        let x = self.stream_from(&mut Past::none(), prefix, activations)?;
        Ok(tch::no_grad(|| self.family.head(&x)))
    }

    /// Goes on from a hook point with other activations, to what the head reads.
    fn stream_from(
        &self,
        past: &mut Past,
        prefix: &Prefix,
        activations: &Tensor,
    ) -> Result<Tensor> {
        let describe = |x: &Tensor| format!("{:?} {:?} on {:?}", x.kind(), x.size(), x.device());
        let (expected, got) = (describe(&prefix.activations), describe(activations));
        if expected != got {
            return Err(Error::input("activations", expected, got));
        }
        let hook = prefix.hook;
        Ok(tch::no_grad(|| {
            let mut replace = |kind, x| {
                let replaced = kind == hook.kind;
                ControlFlow::Continue(if replaced { activations.shallow_clone() } else { x })
            };
            let (next, x) = match hook.kind {
                HookKind::Embed => (
                    0,
                    either(self.family.embed(&prefix.before, past.length() as i64, &mut replace)),
                ),
                HookKind::ResidPre => (hook.layer, activations.shallow_clone()),
                HookKind::ResidPost => (hook.layer + 1, activations.shallow_clone()),
                HookKind::AttnOut | HookKind::MlpIn | HookKind::MlpOut => {
                    let x = self.family.layer(hook.layer, &prefix.before, past, &mut replace);
                    (hook.layer + 1, either(x))
                }
            };
            either(self.layers(next, x, past, &mut goes_on))
        }))
    }

    /// Whether activations at a hook point are the residual stream, or are added to it as they are.
    pub fn is_of_residual_stream(&self, hook: HookPoint) -> bool {
        match hook.kind {
            HookKind::Embed | HookKind::ResidPre | HookKind::MlpIn | HookKind::ResidPost => true,
            HookKind::AttnOut | HookKind::MlpOut => !families::changes_outputs(&self.info.family),
        }
    }

    /// The logits that final norm and unembedding give of directions alone, less those of zero.
    /// The norm divides each direction by its own size.
    ///
    /// # Shapes
    /// `[n, d_model]` to `[n, vocabulary]`.
    ///
    /// # Errors
    /// [`Error::Input`] for another shape, or if the host reads images.
    pub fn direct_logits(&self, directions: &Tensor) -> Result<Tensor> {
        self.check_language()?;
        let d_model = self.info.d_model as i64;
        if !matches!(directions.size()[..], [_, d] if d == d_model) {
            let expected = format!("[n, {d_model}]");
            return Err(Error::input("directions", expected, format!("{:?}", directions.size())));
        }
        Ok(tch::no_grad(|| {
            let x = directions.to_device(self.device).to_kind(self.kind).unsqueeze(0);
            let zero = Tensor::zeros([1, 1, d_model], (self.kind, self.device));
            (self.family.head(&x) - self.family.head(&zero)).squeeze_dim(0)
        }))
    }

    /// Takes the input through all layers, unless `see` breaks off.
    fn pass(&self, input: &Tensor, past: &mut Past, see: See<'_>) -> ControlFlow<Tensor, Tensor> {
        let first = past.length() as i64;
        let x = self.family.embed(input, first, &mut |kind, x| see(HookPoint::new(kind, 0), x))?;
        self.layers(0, x, past, see)
    }

    /// Takes the residual stream through the layers from `first` on, unless `see` breaks off.
    fn layers(
        &self,
        first: usize,
        x: Tensor,
        past: &mut Past,
        see: See<'_>,
    ) -> ControlFlow<Tensor, Tensor> {
        (first..self.info.n_layers).try_fold(x, |x, layer| {
            let x = see(HookPoint::new(HookKind::ResidPre, layer), x)?;
            let mut tap = |kind, x| see(HookPoint::new(kind, layer), x);
            let x = self.family.layer(layer, &x, past, &mut tap)?;
            see(HookPoint::new(HookKind::ResidPost, layer), x)
        })
    }

    /// The input through all layers and the head.
    fn whole(&self, input: &Tensor) -> Result<Tensor> {
        self.check_input(input)?;
        Ok(tch::no_grad(|| {
            self.family.head(&either(self.pass(input, &mut Past::none(), &mut goes_on)))
        }))
    }
}

/// Changes nothing.
fn goes_on(_: HookPoint, x: Tensor) -> ControlFlow<Tensor, Tensor> {
    ControlFlow::Continue(x)
}

/// The tensor with which a pass ended or broke off.
fn either(flow: ControlFlow<Tensor, Tensor>) -> Tensor {
    match flow {
        ControlFlow::Continue(x) | ControlFlow::Break(x) => x,
    }
}
