//! Files of token ids: NumPy arrays, and bare numbers.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sae_config::TokenType;
use sae_data::NpyHeader;

use super::record::{Record, Records, at_record};
use crate::{Error, Result};

/// Tokens after which a document ends where no token ends it.
const MAX_DOCUMENT: usize = 1 << 20;

/// Numbers read at once.
const BLOCK: usize = 1 << 18;

/// Pairs of numbers that tell the width of ids, and how many of them it takes.
const LOOKED_AT: u64 = 1 << 16;
const LEAST_IDS: usize = 32;

/// How a number is stored, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    U16,
    U32,
    I32,
    I64,
}

impl Number {
    const fn n_bytes(self) -> u64 {
        match self {
            Self::U16 => 2,
            Self::U32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }

    /// The token id in its bytes; else the number.
    fn read(self, bytes: &[u8]) -> Result<u32, i64> {
        let number = match (self, bytes) {
            (Self::U16, &[a, b]) => u16::from_le_bytes([a, b]).into(),
            (Self::U32, &[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]).into(),
            (Self::I32, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]).into(),
            (Self::I64, bytes) => i64::from_le_bytes(bytes.try_into().expect("eight bytes")),
            (number, bytes) => unreachable!("{} bytes of a {number:?}", bytes.len()),
        };
        u32::try_from(number).map_err(|_| number)
    }
}

/// The documents of a file of token ids.
#[derive(Debug)]
struct TokenFile {
    path: PathBuf,
    file: File,
    number: Number,
    data_offset: u64,
    /// Numbers in the file, and of a line where documents are lines.
    n_numbers: u64,
    line: Option<u64>,
    end: Option<u32>,
    /// The next number.
    at: u64,
    /// What is read ahead, from its first number on.
    block: Vec<u8>,
    block_start: u64,
}

/// Opens a NumPy array behind its first `skip` documents.
pub(super) fn open_npy(path: &Path, end: Option<u32>, skip: u64) -> Result<Box<dyn Records>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let n_bytes = file.metadata().map_err(Error::io(path))?.len();
    let mut start = vec![0; n_bytes.min(1 << 16) as usize];
    file.read_exact_at(&mut start, 0).map_err(Error::io(path))?;
    let wrong = |expected: &str, got: &str| Error::file(path, "header", expected, got);
    let header = NpyHeader::parse(&start).map_err(|found| wrong(&found.expected, &found.got))?;
    let number = match header.descr.as_str() {
        "<u2" => Number::U16,
        "<u4" => Number::U32,
        "<i4" => Number::I32,
        "<i8" => Number::I64,
        other => {
            let expected = "token ids: descr '<u2', '<u4', '<i4' or '<i8'";
            return Err(wrong(expected, &format!("'{other}'")));
        }
    };
    let (n_lines, line) = match header.shape[..] {
        [n] => (n, None),
        [n, length] => (n, Some(length)),
        _ => {
            let got = format!("{:?}", header.shape);
            return Err(wrong("shape (tokens,) or (documents, tokens)", &got));
        }
    };
    let n_numbers = n_lines.checked_mul(line.unwrap_or(1));
    let expected = n_numbers
        .and_then(|n| n.checked_mul(number.n_bytes()))
        .and_then(|n| n.checked_add(header.data_offset));
    match (n_numbers, expected) {
        (Some(n_numbers), Some(expected)) if expected == n_bytes => {
            let data_offset = header.data_offset;
            TokenFile::open(path, file, number, data_offset, n_numbers, line, end, skip)
        }
        (_, expected) => {
            let expected = expected.map_or("64 bits of bytes".to_owned(), |n| format!("{n} bytes"));
            Err(Error::file(path, "size", expected, n_bytes))
        }
    }
}

/// Opens a file of bare numbers behind its first `skip` documents.
pub(super) fn open_bin(
    path: &Path,
    token_type: Option<TokenType>,
    end: Option<u32>,
    skip: u64,
) -> Result<Box<dyn Records>> {
    let number = match token_type {
        Some(TokenType::U16) => Number::U16,
        Some(TokenType::U32) => Number::U32,
        None => {
            let expected = "`token_type` u16 or u32 in the settings of the corpus";
            return Err(Error::file(path, "numbers", expected, "none"));
        }
    };
    let file = File::open(path).map_err(Error::io(path))?;
    let n_bytes = file.metadata().map_err(Error::io(path))?.len();
    if !n_bytes.is_multiple_of(number.n_bytes()) {
        let expected = format!("a multiple of {} bytes", number.n_bytes());
        return Err(Error::file(path, "size", expected, n_bytes));
    }
    let n_numbers = n_bytes / number.n_bytes();
    TokenFile::open(path, file, number, 0, n_numbers, None, end, skip)
}

/// Refuses a file of u16 ids that is one of u32 ids by all that it shows: each second number, the
/// upper half of an id, is at most that of a vocabulary of a million, and the others are not.
pub(super) fn check_width(path: &Path, token_type: Option<TokenType>) -> Result<()> {
    if token_type != Some(TokenType::U16) {
        return Ok(());
    }
    let mut start = Vec::new();
    let file = File::open(path).map_err(Error::io(path))?;
    file.take(4 * LOOKED_AT).read_to_end(&mut start).map_err(Error::io(path))?;
    let pairs = start.as_chunks::<4>().0;
    let half = |a, b| u16::from_le_bytes([a, b]);
    let is_upper = |half: u16| half < 16;
    let have_uppers = pairs.iter().all(|&[.., a, b]| is_upper(half(a, b)));
    let n_large = pairs.iter().filter(|&&[a, b, ..]| !is_upper(half(a, b))).count();
    if !have_uppers || n_large < LEAST_IDS {
        return Ok(());
    }
    let got =
        "numbers of which each second one is below 16, as in ids of u32 (`token_type = \"u32\"`)";
    Err(Error::file(path, "numbers", "token ids of u16", got))
}

impl TokenFile {
    #[expect(clippy::too_many_arguments, reason = "what two kinds of header say")]
    fn open(
        path: &Path,
        file: File,
        number: Number,
        data_offset: u64,
        n_numbers: u64,
        line: Option<u64>,
        end: Option<u32>,
        skip: u64,
    ) -> Result<Box<dyn Records>> {
        let (path, block) = (path.to_path_buf(), Vec::new());
        let at = line.map_or(0, |line| skip.saturating_mul(line).min(n_numbers));
        let mut this = Self {
            path,
            file,
            number,
            data_offset,
            n_numbers,
            line,
            end,
            at,
            block,
            block_start: 0,
        };
        if line.is_none() {
            for _ in 0..skip {
                // A number that is no token id ends a document of its own.
                let _damaged = this.run()?;
            }
        }
        Ok(Box::new(this))
    }

    /// The bytes of the numbers that are read ahead from the present one on.
    fn ahead(&mut self) -> Result<&[u8]> {
        let width = self.number.n_bytes();
        let in_block = (self.at - self.block_start) * width;
        if in_block >= self.block.len() as u64 {
            let n = (self.n_numbers - self.at).min(BLOCK as u64);
            self.block.resize((n * width) as usize, 0);
            let start = self.data_offset + self.at * width;
            let read = self.file.read_exact_at(&mut self.block, start);
            read.map_err(Error::io(&self.path))?;
            self.block_start = self.at;
            return Ok(&self.block);
        }
        Ok(&self.block[in_block as usize..])
    }

    /// The ids up to the next that ends a document, which is left out, or to the end of the line.
    fn run(&mut self) -> Result<Option<Result<Vec<u32>>>> {
        if self.at >= self.n_numbers {
            return Ok(None);
        }
        let (number, is_stream) = (self.number, self.line.is_none());
        let end = self.end.filter(|_| is_stream);
        let most = self.line.unwrap_or(MAX_DOCUMENT as u64).min(self.n_numbers - self.at);
        let (mut ids, mut left, mut wrong) = (Vec::new(), most, None);
        while left > 0 {
            let start = self.at;
            let bytes = self.ahead()?;
            let mut n_read = 0;
            let mut is_over = false;
            for bytes in bytes.chunks_exact(number.n_bytes() as usize).take(left as usize) {
                n_read += 1;
                match number.read(bytes) {
                    Ok(id) if Some(id) == end => is_over = true,
                    Ok(id) => ids.push(id),
                    Err(number) => {
                        wrong = wrong.or(Some((start + n_read - 1, number)));
                        // The rest of a line still has to be passed over.
                        is_over = is_stream;
                    }
                }
                if is_over {
                    break;
                }
            }
            self.at += n_read;
            left = if is_over { 0 } else { left - n_read };
        }
        Ok(Some(match wrong {
            None => Ok(ids),
            Some((place, number)) => {
                let place = format!("number {place}");
                Err(at_record(&self.path, place, "a token id of 32 bits", number))
            }
        }))
    }
}

impl Records for TokenFile {
    fn next(&mut self) -> Result<Option<Result<Record>>> {
        Ok(self.run()?.map(|ids| ids.map(Record::Ids)))
    }

    fn fraction(&self) -> f64 {
        self.at as f64 / self.n_numbers.max(1) as f64
    }
}
