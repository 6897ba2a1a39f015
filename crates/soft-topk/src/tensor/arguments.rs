//! Arguments of the tensor functions, brought to rows.

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// A number, or a tensor that may ask for its gradient: what stands for k and alpha.
#[derive(Debug)]
pub enum Argument {
    /// The same number for all rows.
    Number(f64),
    /// A tensor: for alpha of no dimension, for k of none or with an entry for each row.
    Tensor(Tensor),
}

impl From<f64> for Argument {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<&Tensor> for Argument {
    fn from(tensor: &Tensor) -> Self {
        Self::Tensor(tensor.shallow_clone())
    }
}

impl Argument {
    /// The argument as a tensor of `kind` on the device of x.
    pub(crate) fn tensor(self, name: &'static str, kind: Kind, device: Device) -> Result<Tensor> {
        match self {
            // Filled there: a copy from the host would have to be waited for.
            Self::Number(number) => Ok(Tensor::f_full([0i64; 0], number, (kind, device))?),
            Self::Tensor(tensor) => {
                if tensor.device() != device {
                    let got = tensor.device();
                    return Err(Error::Device { argument: name, expected: device, got });
                }
                let got = tensor.kind();
                if name == "alpha" && !FLOATS.contains(&got) {
                    return Err(Error::Kind { argument: name, expected: WANTED, got });
                }
                if !FLOATS.contains(&got) && !WHOLE.contains(&got) {
                    let expected = "a kind of real numbers";
                    return Err(Error::Kind { argument: name, expected, got });
                }
                Ok(tensor.f_to_kind(kind)?)
            }
        }
    }
}

const FLOATS: [Kind; 4] = [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16];
/// Kinds of whole numbers.
pub(crate) const WHOLE: [Kind; 5] = [Kind::Int64, Kind::Int, Kind::Int16, Kind::Int8, Kind::Uint8];
const WANTED: &str = "Float, Double, Half or BFloat16";

/// x as rows, and how to get back from rows to its shape.
pub(crate) struct Rows {
    /// `[rows, n]`, contiguous.
    pub(crate) x: Tensor,
    /// The precision of the computation.
    pub(crate) kind: Kind,
    dim: i64,
    moved: Vec<i64>,
}

impl Rows {
    pub(crate) fn of(x: &Tensor, dim: i64) -> Result<Self> {
        let rank = x.dim();
        if rank == 0 {
            let (expected, got) = ("at least one dimension".to_owned(), "[]".to_owned());
            return Err(Error::Shape { argument: "x", expected, got });
        }
        let signed = rank as i64;
        if !(-signed..signed).contains(&dim) {
            return Err(Error::Dimension { dim, rank });
        }
        let kind = match x.kind() {
            Kind::Double => Kind::Double,
            kind if FLOATS.contains(&kind) => Kind::Float,
            got => return Err(Error::Kind { argument: "x", expected: WANTED, got }),
        };
        let moved = x.f_movedim_int(dim, -1)?;
        let shape = moved.size();
        let n = shape[rank - 1];
        let rows: i64 = shape[..rank - 1].iter().product();
        let x = moved.f_reshape([rows, n])?.f_contiguous()?;
        Ok(Self { x, kind, dim, moved: shape })
    }

    /// The dimension of the entries, counted from the front.
    fn place(&self) -> usize {
        self.dim.rem_euclid(self.moved.len() as i64) as usize
    }

    /// The shape of x without the dimension of the entries.
    pub(crate) fn batch_shape(&self) -> &[i64] {
        &self.moved[..self.moved.len() - 1]
    }

    /// One value for each row, from an argument with one for all or the batch's shape, in which the
    /// dimension of the entries may be kept with a length of 1.
    pub(crate) fn per_row(&self, name: &'static str, argument: &Tensor) -> Result<Tensor> {
        let (expected, got) = (self.batch_shape(), argument.size());
        let mut kept = expected.to_vec();
        kept.insert(self.place(), 1);
        if got != expected && got != kept && argument.numel() != 1 {
            let (expected, got) = (format!("{expected:?}, {kept:?} or []"), format!("{got:?}"));
            return Err(Error::Shape { argument: name, expected, got });
        }
        let rows = self.x.size()[0];
        let flat = argument.f_reshape([-1])?;
        Ok(if flat.size()[0] == rows { flat } else { flat.f_expand([rows], false)? }
            .f_contiguous()?)
    }

    /// A result of the shape of x, from rows.
    pub(crate) fn restore(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(rows.f_reshape(&self.moved)?.f_movedim_int(-1, self.dim)?)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::Argument;

    fn refusal(name: &'static str, argument: &Tensor, device: Device) -> String {
        Argument::from(argument).tensor(name, Kind::Float, device).unwrap_err().to_string()
    }

    #[test]
    fn arguments_on_another_device_are_refused() {
        let text = refusal("k", &Tensor::from(2.0), Device::Cuda(1));
        assert_eq!(text, "device of k: expected Cuda(1) as for x, got Cpu");
        let text = refusal("alpha", &Tensor::from(0.1), Device::Cuda(0));
        assert_eq!(text, "device of alpha: expected Cuda(0) as for x, got Cpu");
    }

    #[test]
    fn arguments_that_are_no_real_numbers_are_refused() {
        let complex = Tensor::from(2.0).to_kind(Kind::ComplexDouble);
        let text = refusal("k", &complex, Device::Cpu);
        assert_eq!(text, "kind of k: expected a kind of real numbers, got ComplexDouble");
        let text = refusal("k", &Tensor::from(true), Device::Cpu);
        assert_eq!(text, "kind of k: expected a kind of real numbers, got Bool");
        let text = refusal("alpha", &Tensor::from(1_i64), Device::Cpu);
        let expected = "kind of alpha: expected Float, Double, Half or BFloat16, got Int64";
        assert_eq!(text, expected);
        let whole = Argument::from(&Tensor::from(3_i64)).tensor("k", Kind::Float, Device::Cpu);
        assert_eq!(whole.unwrap().double_value(&[]), 3.0);
    }
}
