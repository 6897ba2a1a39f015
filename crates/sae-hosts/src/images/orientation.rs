//! How the pixels of a file are turned or flipped before they are seen, as Pillow's
//! `exif_transpose` finds it: the orientation of the EXIF data, else that of the XMP data.
//!
//! The containers are walked chunk by chunk, which also shows files that were cut off and those with
//! more than one picture.

use image::metadata::Orientation;

/// The tag of the orientation in EXIF data.
const TAG: u16 = 0x0112;

/// The metadata of a file that may hold an orientation.
#[derive(Debug, Default)]
struct Metadata {
    exif: Vec<u8>,
    xmp: Vec<u8>,
}

impl Metadata {
    fn orientation(&self) -> Option<Orientation> {
        let value = of_exif(&self.exif).or_else(|| of_xmp(&self.xmp));
        value.and_then(|value| u8::try_from(value).ok()).and_then(Orientation::from_exif)
    }
}

/// Of a JPEG file, whose end is looked for too: decoders fill up what is missing.
pub(super) fn of_jpeg(bytes: &[u8]) -> Result<Option<Orientation>, String> {
    let cut_off = || "a JPEG file that was cut off".to_owned();
    let mut metadata = Metadata::default();
    let mut at = 2;
    loop {
        // Between segments there may be bytes of the coded picture.
        while *bytes.get(at).ok_or_else(cut_off)? != 0xff {
            at += 1;
        }
        let marker = *bytes.get(at + 1).ok_or_else(cut_off)?;
        match marker {
            0xd9 => return Ok(metadata.orientation()),
            // A fill byte.
            0xff => at += 1,
            // A byte 0xff of the picture, restarts and markers without content.
            0x00 | 0x01 | 0xd0..=0xd8 => at += 2,
            _ => {
                let length = bytes.get(at + 2..at + 4).ok_or_else(cut_off)?;
                let length = usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
                let segment = bytes.get(at + 4..at + 2 + length).ok_or_else(cut_off)?;
                if marker == 0xe1 {
                    if let Some(exif) = segment.strip_prefix(b"Exif\0\0") {
                        metadata.exif.extend(exif);
                    } else if let Some(xmp) =
                        segment.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0")
                    {
                        metadata.xmp.extend(xmp);
                    }
                }
                at += 2 + length;
            }
        }
    }
}

/// Of a PNG file, whose last chunk is looked for too: decoders have all pixels before it.
pub(super) fn of_png(bytes: &[u8]) -> Result<Option<Orientation>, String> {
    let cut_off = || "a PNG file that was cut off".to_owned();
    let mut metadata = Metadata::default();
    let mut rest = bytes.get(8..).ok_or_else(cut_off)?;
    loop {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (kind, after) = after.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let data = after.get(..length).ok_or_else(cut_off)?;
        // A checksum follows.
        rest = after.get(length..).and_then(|rest| rest.get(4..)).ok_or_else(cut_off)?;
        match kind {
            b"IEND" => return Ok(metadata.orientation()),
            b"eXIf" => metadata.exif.extend(data),
            b"tEXt" | b"zTXt" if data.starts_with(b"Raw profile type exif\0") => {
                return Err("EXIF data in a text chunk (`Raw profile type exif`)".to_owned());
            }
            b"iTXt" => {
                if let Some(text) = data.strip_prefix(b"XML:com.adobe.xmp\0") {
                    if text.first() != Some(&0) {
                        return Err("compressed XMP data".to_owned());
                    }
                    metadata.xmp.extend(text);
                }
            }
            _ => {}
        }
    }
}

/// Of a WebP file; animations are refused.
pub(super) fn of_webp(bytes: &[u8]) -> Result<Option<Orientation>, String> {
    let mut metadata = Metadata::default();
    let size = bytes.get(4..8).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    if size.is_none_or(|size| bytes.len() < size.saturating_add(8)) {
        return Err("a WebP file that was cut off".to_owned());
    }
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some((kind, after)) = rest.split_first_chunk::<4>() {
        let Some((length, after)) = after.split_first_chunk::<4>() else { break };
        let length = u32::from_le_bytes(*length) as usize;
        let Some(data) = after.get(..length) else { break };
        match kind {
            b"EXIF" => metadata.exif.extend(data.strip_prefix(b"Exif\0\0").unwrap_or(data)),
            b"XMP " => metadata.xmp.extend(data),
            b"ANIM" => return Err("an animation".to_owned()),
            _ => {}
        }
        rest = after.get(length + length % 2..).unwrap_or_default();
    }
    Ok(metadata.orientation())
}

/// The value of the tag in the first directory of EXIF data.
fn of_exif(bytes: &[u8]) -> Option<u32> {
    let little = match bytes.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let number = |at: usize, size: usize| -> Option<u32> {
        let bytes = bytes.get(at..at.checked_add(size)?)?.iter();
        let add = |sum, byte: &u8| sum << 8 | u32::from(*byte);
        Some(if little { bytes.rev().fold(0, add) } else { bytes.fold(0, add) })
    };
    let directory = number(4, 4)? as usize;
    let mut found = None;
    for entry in 0..number(directory, 2)? as usize {
        let at = directory + 2 + 12 * entry;
        let (Some(tag), Some(kind), Some(count)) =
            (number(at, 2), number(at + 2, 2), number(at + 4, 4))
        else {
            break;
        };
        if tag != u32::from(TAG) || count != 1 {
            continue;
        }
        // Integers of one, two and four bytes, with and without a sign.
        let size = match kind {
            1 | 6 => 1,
            3 | 8 => 2,
            4 | 9 => 4,
            _ => continue,
        };
        found = number(at + 8, size).or(found);
    }
    found
}

/// The digit after `tiff:Orientation="` or `tiff:Orientation>`.
fn of_xmp(bytes: &[u8]) -> Option<u32> {
    let name = b"tiff:Orientation";
    (0..bytes.len()).find_map(|at| {
        let after = bytes[at..].strip_prefix(name)?;
        let after = after.strip_prefix(b"=\"").or_else(|| after.strip_prefix(b">"))?;
        let digit = after.first().filter(|byte| byte.is_ascii_digit())?;
        Some(u32::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exif(little: bool, kind: u16, value: u32) -> Vec<u8> {
        let u16s = |x: u16| if little { x.to_le_bytes() } else { x.to_be_bytes() };
        let u32s = |x: u32| if little { x.to_le_bytes() } else { x.to_be_bytes() };
        let mut bytes = if little { b"II*\0".to_vec() } else { b"MM\0*".to_vec() };
        bytes.extend(u32s(8));
        bytes.extend(u16s(2));
        for (tag, kind, value) in [(0x010f, 4, 7), (TAG, kind, value)] {
            bytes.extend(u16s(tag));
            bytes.extend(u16s(kind));
            bytes.extend(u32s(1));
            match kind {
                3 => bytes.extend([u16s(value as u16), [0; 2]].concat()),
                _ => bytes.extend(u32s(value)),
            }
        }
        bytes
    }

    #[test]
    fn exif_of_both_byte_orders_and_integer_types_is_read() {
        for value in 1..=8 {
            for little in [true, false] {
                for kind in [3, 4] {
                    assert_eq!(of_exif(&exif(little, kind, value)), Some(value));
                }
            }
        }
        assert_eq!(of_exif(&exif(true, 2, 6)), None);
        let whole = exif(true, 3, 6);
        assert!((0..whole.len() - 4).all(|length| of_exif(&whole[..length]).is_none()));
    }

    #[test]
    fn xmp_counts_where_exif_has_none() {
        let xmp = b"<x tiff:Orientation=\"6\"/>".to_vec();
        assert_eq!(of_xmp(&xmp), Some(6));
        assert_eq!(of_xmp(b"<tiff:Orientation>3</tiff:Orientation>"), Some(3));
        assert_eq!(of_xmp(b"tiff:Orientation x"), None);
        let both = Metadata { exif: exif(true, 3, 8), xmp: xmp.clone() };
        assert_eq!(both.orientation(), Some(Orientation::Rotate270));
        let alone = Metadata { exif: Vec::new(), xmp };
        assert_eq!(alone.orientation(), Some(Orientation::Rotate90));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_walked_to_their_end(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
            value in 1..9_u32,
        ) {
            let _ = of_jpeg(&[b"\xff\xd8\xff\xe1", bytes.as_slice()].concat());
            let start = b"\x89PNG\r\n\x1a\n\0\0\0\x10eXIf";
            let _ = of_png(&[start, bytes.as_slice()].concat());
            let start = b"RIFF\x20\0\0\0WEBPEXIF\x10\0\0\0";
            let _ = of_webp(&[start, bytes.as_slice()].concat());
            let _ = of_xmp(&bytes);
            let mut exif = exif(true, 3, value);
            let at = bytes.len() % exif.len();
            exif[at] = bytes.first().copied().unwrap_or_default();
            let _ = of_exif(&exif);
        }
    }
}
