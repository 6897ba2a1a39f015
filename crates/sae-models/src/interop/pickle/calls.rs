//! The calls of a pickle that are understood, though not made.

use std::rc::Rc;

use super::{Storage, StoredTensor, Value};

/// The result of a call.
pub(super) fn call(function: &Value, arguments: &Value) -> Result<Value, String> {
    let Value::Global(name) = function else { return Ok(Value::Opaque) };
    let arguments = arguments.as_tuple().ok_or("a call without arguments")?;
    match &**name {
        "collections.OrderedDict" => Ok(Value::Dict(Rc::default(), 1)),
        "torch._utils._rebuild_parameter" => {
            arguments.first().cloned().ok_or_else(|| "a parameter without a tensor".into())
        }
        "torch._utils._rebuild_tensor_v2" => {
            let tensor = match arguments {
                [Value::Storage(storage), Value::Int(offset), size, stride, ..] => {
                    size.as_ints().zip(stride.as_ints()).map(|(size, stride)| StoredTensor {
                        storage: storage.clone(),
                        offset: *offset,
                        size,
                        stride,
                    })
                }
                _ => None,
            };
            Ok(Value::Tensor(Rc::new(tensor.ok_or("a tensor without storage, size or stride")?)))
        }
        _ => Ok(Value::Opaque),
    }
}

/// The storage that a persistent id stands for: `("storage", class, key, device, n)`.
pub(super) fn storage(id: &Value) -> Option<Value> {
    match id.as_tuple()? {
        [Value::Text(what), Value::Global(class), Value::Text(key), ..] if &**what == "storage" => {
            Some(Value::Storage(Storage { class: class.clone(), key: key.clone() }))
        }
        _ => None,
    }
}
