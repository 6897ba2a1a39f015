//! Metadata values of a GGUF file.

/// A metadata value; integers and floats of all widths are widened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum GgufValue {
    /// `u8`, `u16`, `u32` or `u64`.
    Unsigned(u64),
    /// `i8`, `i16`, `i32` or `i64`.
    Signed(i64),
    /// `f32` or `f64`.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// UTF-8 text.
    String(String),
    /// Values of one type.
    Array(GgufArray),
}

impl GgufValue {
    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The array.
    pub fn as_array(&self) -> Option<&GgufArray> {
        match self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }

    /// An integer of any width that fits.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            Self::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// A float of any width.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// An integer or a float.
    pub(super) fn as_number(&self) -> Option<f64> {
        match self {
            Self::Unsigned(value) => Some(*value as f64),
            Self::Signed(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }
}

/// The value; of a long text its start, of an array its length.
impl std::fmt::Display for GgufValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsigned(value) => write!(f, "{value}"),
            Self::Signed(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::String(text) => match text.char_indices().nth(60) {
                Some((end, _)) => write!(f, "`{}…`", &text[..end]),
                None => write!(f, "`{text}`"),
            },
            Self::Array(array) => write!(f, "an array of {} values", array.len()),
        }
    }
}

/// An array, kept as the bytes of the file (its lengths and texts are already checked) and decoded
/// when it is read, so that it never takes more memory than the file.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufArray {
    pub(super) element: ValueType,
    pub(super) length: u64,
    pub(super) bytes: Vec<u8>,
}

impl GgufArray {
    /// Number of values.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The texts of an array of strings.
    pub fn strings(&self) -> Option<impl Iterator<Item = &str>> {
        let mut rest = self.bytes.as_slice();
        (self.element == ValueType::String).then(|| {
            std::iter::from_fn(move || {
                let (length, after) = rest.split_first_chunk::<8>()?;
                let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
                let (text, after) = after.split_at_checked(length)?;
                rest = after;
                std::str::from_utf8(text).ok()
            })
        })
    }

    /// The values of an array of 32-bit floats.
    pub fn floats(&self) -> Option<impl Iterator<Item = f32>> {
        let (values, _) = self.bytes.as_chunks::<4>();
        (self.element == ValueType::F32)
            .then(|| values.iter().map(|bytes| f32::from_le_bytes(*bytes)))
    }

    /// The values of an array of 32-bit integers.
    pub fn integers(&self) -> Option<impl Iterator<Item = i64>> {
        let signed = match self.element {
            ValueType::I32 => true,
            ValueType::U32 => false,
            _ => return None,
        };
        let (values, _) = self.bytes.as_chunks::<4>();
        Some(values.iter().map(move |bytes| {
            if signed {
                i64::from(i32::from_le_bytes(*bytes))
            } else {
                i64::from(u32::from_le_bytes(*bytes))
            }
        }))
    }
}

/// The type numbers of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    pub(super) fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// Bytes of a value of fixed size.
    pub(super) fn size(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }
}
