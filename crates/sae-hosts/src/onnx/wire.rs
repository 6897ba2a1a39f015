//! The wire format of protocol buffers: a message is fields one after another, each a number and
//! a value.

/// The value of a field, as the wire has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// An integer, or a truth value.
    Varint(u64),
    /// Eight bytes.
    Fixed64([u8; 8]),
    /// A text, a message, or numbers one after another.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32([u8; 4]),
}

/// The fields of a message, in their order.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    left: &'a [u8],
    length: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { left: message, length: message.len() }
    }

    fn take(&mut self, n: u64) -> Result<&'a [u8], String> {
        let at = self.length - self.left.len();
        let split = usize::try_from(n).ok().and_then(|n| self.left.split_at_checked(n));
        let (taken, left) = split
            .ok_or_else(|| format!("{n} bytes at offset {at} of a message of {}", self.length))?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N as u64)?;
        Ok(taken.try_into().expect("as many bytes as were taken"))
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), String> {
        let tag = varint(&mut self.left)?;
        let number = u32::try_from(tag >> 3).map_err(|_| format!("field {}", tag >> 3))?;
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut self.left)?),
            1 => Value::Fixed64(self.array()?),
            2 => {
                let length = varint(&mut self.left)?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(self.array()?),
            other => return Err(format!("wire type {other} of field {number}")),
        };
        Ok((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            // Nothing after it has a known place.
            self.left = &[];
        }
        Some(field)
    }
}

/// Takes an integer of up to ten bytes off the front.
fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for place in 0..10 {
        let (first, left) = bytes.split_first().ok_or("an integer that is cut off")?;
        *bytes = left;
        let bits = u64::from(first & 0x7f);
        if place == 9 && bits > 1 {
            break;
        }
        value |= bits << (7 * place);
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("an integer of more than 64 bits".to_owned())
}

impl<'a> Value<'a> {
    pub(super) fn integer(self) -> Result<i64, String> {
        match self {
            Self::Varint(value) => Ok(value.cast_signed()),
            other => Err(format!("{} in place of an integer", other.kind())),
        }
    }

    pub(super) fn float(self) -> Result<f32, String> {
        match self {
            Self::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            other => Err(format!("{} in place of a float", other.kind())),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(format!("{} in place of bytes", other.kind())),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes()?).map_err(|e| e.to_string())
    }

    /// Appends the integers of a repeated field: one, or several packed together.
    pub(super) fn integers(self, all: &mut Vec<i64>) -> Result<(), String> {
        match self {
            Self::Bytes(mut packed) => {
                while !packed.is_empty() {
                    all.push(varint(&mut packed)?.cast_signed());
                }
            }
            one => all.push(one.integer()?),
        }
        Ok(())
    }

    /// Appends the floats of a repeated field: one, or several packed together.
    pub(super) fn floats(self, all: &mut Vec<f32>) -> Result<(), String> {
        match self {
            Self::Bytes(packed) => {
                let (floats, rest) = packed.as_chunks::<4>();
                if !rest.is_empty() {
                    return Err(format!("{} bytes in place of floats", packed.len()));
                }
                all.extend(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
            one => all.push(one.float()?),
        }
        Ok(())
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Varint(_) => "an integer",
            Self::Fixed64(_) => "eight bytes",
            Self::Bytes(_) => "bytes",
            Self::Fixed32(_) => "four bytes",
        }
    }
}

#[cfg(test)]
pub(super) mod writing {
    //! The other way, for tests.

    /// An integer.
    pub(crate) fn varint(mut value: u64, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    /// A field of an integer.
    pub(crate) fn integer(number: u32, value: i64, out: &mut Vec<u8>) {
        varint(u64::from(number) << 3, out);
        varint(value.cast_unsigned(), out);
    }

    /// A field of bytes.
    pub(crate) fn bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
        varint(u64::from(number) << 3 | 2, out);
        varint(value.len() as u64, out);
        out.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(message: &[u8]) -> Result<Vec<(u32, Value<'_>)>, String> {
        Fields::new(message).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            fields in prop::collection::vec((1_u32..1 << 29, any::<i64>(), any::<Vec<u8>>()), 0..8),
        ) {
            let mut message = Vec::new();
            for (number, integer, bytes) in &fields {
                writing::integer(*number, *integer, &mut message);
                writing::bytes(*number, bytes, &mut message);
            }
            let read = all(&message).unwrap();
            prop_assert_eq!(read.len(), 2 * fields.len());
            for (pair, (number, integer, bytes)) in read.chunks(2).zip(&fields) {
                prop_assert_eq!((pair[0].0, pair[0].1.integer()), (*number, Ok(*integer)));
                prop_assert_eq!((pair[1].0, pair[1].1.bytes()), (*number, Ok(bytes.as_slice())));
            }
        }

        #[test]
        fn any_bytes_are_fields_or_an_error(bytes in any::<Vec<u8>>()) {
            let _ = all(&bytes);
        }

        #[test]
        fn packed_integers_are_those_one_by_one(values in prop::collection::vec(any::<i64>(), 0..9)) {
            let (mut packed, mut message) = (Vec::new(), Vec::new());
            for value in &values {
                writing::varint(value.cast_unsigned(), &mut packed);
                writing::integer(1, *value, &mut message);
            }
            let (mut together, mut single) = (Vec::new(), Vec::new());
            Value::Bytes(&packed).integers(&mut together).unwrap();
            for field in all(&message).unwrap() {
                field.1.integers(&mut single).unwrap();
            }
            prop_assert_eq!(&together, &values);
            prop_assert_eq!(&single, &values);
        }
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_an_error() {
        for (message, part) in [
            (&[0x08][..], "cut off"),
            (&[0x0a, 5, 1, 2], "5 bytes at offset 2 of a message of 4"),
            (&[0x0d, 1, 2, 3], "4 bytes at offset 1"),
            (&[0x09, 1], "8 bytes"),
            (&[0x0b], "wire type 3 of field 1"),
            (&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2], "more than 64 bits"),
        ] {
            let error = all(message).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert!(Value::Bytes(&[1, 2, 3]).floats(&mut Vec::new()).is_err());
        assert!(Value::Fixed64([0; 8]).integer().unwrap_err().contains("eight bytes"));
    }
}
