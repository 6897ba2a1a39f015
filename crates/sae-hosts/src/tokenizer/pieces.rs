//! The bytes of text that tokens stand for.

use tokenizers::{DecoderWrapper, Tokenizer};

/// How a vocabulary spells texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// A character of an alphabet for each byte (Radford et al. 2019).
    Bytes,
    /// `▁` for a space, `<0x0A>` for a byte, as sentencepiece does.
    Marks,
    /// As it is.
    Plain,
}

pub(super) fn piece(tokenizer: &Tokenizer, id: u32) -> Option<Vec<u8>> {
    let token = tokenizer.id_to_token(id)?;
    if tokenizer.get_added_tokens_decoder().contains_key(&id) {
        return Some(token.into_bytes());
    }
    let decoder = tokenizer.get_decoder();
    Some(match decoder.map_or(Spelling::Plain, spelling) {
        Spelling::Bytes => from_alphabet(&token),
        Spelling::Marks => from_marks(&token),
        Spelling::Plain => token.into_bytes(),
    })
}

fn spelling(decoder: &DecoderWrapper) -> Spelling {
    match decoder {
        DecoderWrapper::ByteLevel(_) => Spelling::Bytes,
        DecoderWrapper::Metaspace(_) | DecoderWrapper::ByteFallback(_) => Spelling::Marks,
        DecoderWrapper::Sequence(parts) => {
            let of_parts = parts.get_decoders().iter().map(spelling);
            of_parts.into_iter().find(|part| *part != Spelling::Plain).unwrap_or(Spelling::Plain)
        }
        _ => Spelling::Plain,
    }
}

fn from_alphabet(token: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(token.len());
    for char in token.chars() {
        match byte(char) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(char.to_string().into_bytes()),
        }
    }
    bytes
}

/// The byte of a character: those of Latin-1 that are printed stand for themselves, the others follow
/// from 256 on.
fn byte(char: char) -> Option<u8> {
    let is_own = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let code = u32::from(char);
    match u8::try_from(code) {
        Ok(byte) => is_own(byte).then_some(byte),
        Err(_) => (0..=u8::MAX).filter(|byte| !is_own(*byte)).nth((code - 256) as usize),
    }
}

fn from_marks(token: &str) -> Vec<u8> {
    let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    let byte = hex.filter(|hex| hex.len() == 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    byte.map_or_else(|| token.replace('▁', " ").into_bytes(), |byte| vec![byte])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::Decoder as _;
    use tokenizers::decoders::byte_level::ByteLevel;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel as Alphabet;

    use super::*;

    #[test]
    fn every_byte_has_its_character() {
        let mut alphabet: Vec<char> = Alphabet::alphabet().into_iter().collect();
        assert_eq!(alphabet.len(), 256);
        alphabet.sort_unstable();
        let mut bytes: Vec<u8> = alphabet.iter().map(|char| byte(*char).unwrap()).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(
            (byte('中'), byte('\u{ad}'), byte(' '), byte('\u{144}')),
            (None, None, None, None)
        );
        assert_eq!((byte('Ġ'), byte('Ċ'), byte('a')), (Some(b' '), Some(b'\n'), Some(b'a')));
    }

    proptest! {
        #[test]
        fn pieces_are_what_the_decoder_makes_of_them(
            token in prop::collection::vec(prop::sample::select(
                ('!'..='~').chain('¡'..='¬').chain('®'..='ń').filter(|c| byte(*c).is_some()).collect::<Vec<_>>(),
            ), 1..6),
        ) {
            let token: String = token.into_iter().collect();
            let decoded = ByteLevel::default().decode(vec![token.clone()]).unwrap();
            let bytes = from_alphabet(&token);
            prop_assert_eq!(String::from_utf8_lossy(&bytes), decoded);
        }
    }

    #[test]
    fn marks_of_sentencepiece_are_spaces_and_bytes() {
        assert_eq!(from_marks("▁the"), b" the");
        assert_eq!(from_marks("<0x0A>"), b"\n");
        for plain in ["<0x0A", "<0xZZ>", "<0x>", "a▁b"] {
            assert_eq!(from_marks(plain), plain.replace('▁', " ").as_bytes());
        }
    }
}
