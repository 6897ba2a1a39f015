//! Pickles of state dicts, read without executing anything.
//!
//! A pickle is a program for a stack machine. This one knows the instructions that data needs and
//! only notes what a pickle would call: of the calls it understands those that torch writes for
//! tensors, parameters and ordered dictionaries; the result of any other is opaque.

mod calls;
mod machine;
mod value;

use machine::Machine;
pub(super) use value::{Storage, StoredTensor, Value};

/// What a pickle holds, or what is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Result<Value, String> {
    let mut machine = Machine::new(bytes);
    while !machine.step()? {}
    machine.pop()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::machine::MAX_DEPTH;
    use super::{Value, read};

    #[test]
    fn a_tuple_does_not_reach_below_a_mark() {
        assert_eq!(read(b"K\x01(\x85t.").unwrap_err(), "a mark where a value is needed");
    }

    #[test]
    fn what_would_be_called_is_not() {
        let system = b"cos\nsystem\n(X\x04\x00\x00\x00truetR.";
        assert!(matches!(read(system).unwrap(), Value::Opaque));
    }

    #[test]
    fn deep_values_are_refused() {
        let nested = |n| [&b"N"[..], &b"\x85".repeat(n)[..], b"."].concat();
        assert!(read(&nested(MAX_DEPTH)).is_ok());
        assert!(read(&nested(MAX_DEPTH + 1)).unwrap_err().contains("nested"));
    }

    #[test]
    fn integers_have_their_sign() {
        let long = |bytes: &[u8]| {
            let pickle = [&[0x8a, bytes.len() as u8], bytes, b"."].concat();
            match read(&pickle) {
                Ok(Value::Int(n)) => n,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((long(&[]), long(&[200, 0]), long(&[0x38, 0xff])), (0, 200, -200));
        assert!(read(&[&[0x8a, 9][..], &[1; 9], b"."].concat()).is_err());
    }

    proptest! {
        #[test]
        fn any_instructions_end_in_a_value_or_an_error(
            codes in prop::collection::vec(
                prop_oneof![
                    4 => prop::sample::select(&b"(t)}su.RbQh0NqKJXc\n\x01\x00ae]\x85\x86\x87\x93\x94"[..]),
                    1 => any::<u8>(),
                ],
                0..200,
            ),
        ) {
            let _ = read(&codes);
        }
    }
}
