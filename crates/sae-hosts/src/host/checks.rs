//! What a host refuses to read.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::{HostInput, HostModel};
use crate::layers::Past;
use crate::{Error, Result};

impl HostModel {
    pub(super) fn check_language(&self) -> Result<()> {
        match self.info.input {
            HostInput::Tokens { .. } => Ok(()),
            HostInput::Images { .. } => {
                Err(Error::input("host", "a language model", &self.info.family))
            }
        }
    }

    pub(super) fn check_vision(&self) -> Result<()> {
        match self.info.input {
            HostInput::Images { .. } => Ok(()),
            HostInput::Tokens { .. } => {
                Err(Error::input("host", "a vision model", &self.info.family))
            }
        }
    }

    /// Checks that some layers can go on from a past with input `[batch, positions, …]`.
    pub(super) fn check_past(
        &self,
        past: &Past,
        input: &Tensor,
        layers: Range<usize>,
    ) -> Result<()> {
        let (n_texts, n_positions) = (input.size()[0], input.size()[1]);
        let length = past.length() as i64;
        let (first, last) = (layers.start, layers.end);
        let fits = |of: &[i64; 2]| of[0] == n_texts && of[1] >= length;
        if length > 0 && !past.of_layers(layers).is_some_and(|all| all.iter().all(fits)) {
            let expected =
                format!("{length} positions of {n_texts} texts of layers {first} to {last}");
            return Err(Error::input("past", expected, "others"));
        }
        match self.info.input {
            HostInput::Tokens { max_positions, .. }
                if length + n_positions > max_positions as i64 =>
            {
                let expected = format!("at most {max_positions} positions");
                Err(Error::input("token ids", expected, length + n_positions))
            }
            HostInput::Images { .. } if length > 0 => self.check_language(),
            _ => Ok(()),
        }
    }

    pub(super) fn check_input(&self, input: &Tensor) -> Result<()> {
        let describe = |kind: Kind, shape: &str| format!("{kind:?} {shape} on {:?}", self.device);
        let got = || format!("{:?} {:?} on {:?}", input.kind(), input.size(), input.device());
        let shape = input.size();
        let on_device = input.device() == self.device;
        match self.info.input {
            HostInput::Tokens { vocabulary, max_positions } => {
                let positions = 1..=max_positions as i64;
                let shaped = matches!(shape[..], [batch, length] if batch > 0 && positions.contains(&length));
                if !(shaped && on_device && input.kind() == Kind::Int64) {
                    let expected = describe(Kind::Int64, &format!("[batch, 1 to {max_positions}]"));
                    return Err(Error::input("token ids", expected, got()));
                }
                let (low, high) = (input.min().int64_value(&[]), input.max().int64_value(&[]));
                if low < 0 || high >= vocabulary as i64 {
                    let expected = format!("ids from 0 to {}", vocabulary - 1);
                    return Err(Error::input("token ids", expected, format!("{low} to {high}")));
                }
            }
            HostInput::Images { channels, size, multiple_of, .. } => {
                let fits = |edge: i64| match multiple_of {
                    Some(part) => edge > 0 && edge % part as i64 == 0,
                    None => edge == size as i64,
                };
                let shaped = matches!(shape[..], [batch, c, height, width]
                    if batch > 0 && c == channels as i64 && fits(height) && fits(width));
                if !(shaped && on_device && input.kind() == self.kind) {
                    let edge = multiple_of.map_or(size.to_string(), |p| format!("multiple of {p}"));
                    let expected =
                        describe(self.kind, &format!("[batch, {channels}, {edge}, {edge}]"));
                    return Err(Error::input("pixels", expected, got()));
                }
            }
        }
        Ok(())
    }
}
