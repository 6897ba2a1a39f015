//! The stack machine that a pickle is a program for.

use std::collections::HashMap;
use std::rc::Rc;

use super::Value;
use super::calls::{call, storage};

/// Deepest nesting of values.
pub(super) const MAX_DEPTH: usize = 32;

#[derive(Default)]
pub(super) struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value>,
    /// Heights of the stack at the marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(pickle: &'a [u8]) -> Self {
        Self { rest: pickle, ..Self::default() }
    }

    /// One instruction; whether it was the last.
    pub(super) fn step(&mut self) -> Result<bool, String> {
        let [code] = self.take::<1>()?;
        match code {
            // PROTO, FRAME
            0x80 => drop(self.take::<1>()?),
            0x95 => drop(self.take::<8>()?),
            b'.' => return Ok(true),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            _ => {
                let is_known = self.plain(code)?
                    || self.put_or_get(code)?
                    || self.collection(code)?
                    || self.object(code)?;
                if !is_known {
                    return Err(format!("instruction {code:#04x}, which state dicts do not need"));
                }
            }
        }
        Ok(false)
    }

    /// Numbers, texts and other values without parts; whether the instruction is one of these.
    fn plain(&mut self, code: u8) -> Result<bool, String> {
        match code {
            b'N' => self.push(Value::None)?,
            // NEWTRUE, NEWFALSE, EMPTY_LIST
            0x88 | 0x89 | b']' => self.push(Value::Opaque)?,
            // BININT, BININT1, BININT2, LONG1
            b'J' => {
                let n = i32::from_le_bytes(self.take()?);
                self.push(Value::Int(n.into()))?;
            }
            b'K' => {
                let [n] = self.take::<1>()?;
                self.push(Value::Int(n.into()))?;
            }
            b'M' => {
                let n = u16::from_le_bytes(self.take()?);
                self.push(Value::Int(n.into()))?;
            }
            0x8a => {
                let [n] = self.take::<1>()?;
                let n = self.long(n.into())?;
                self.push(Value::Int(n))?;
            }
            b'G' => {
                let x = f64::from_be_bytes(self.take()?);
                self.push(Value::Float(x))?;
            }
            // BINUNICODE, SHORT_BINUNICODE
            b'X' => {
                let n = u32::from_le_bytes(self.take()?);
                self.text(n as usize)?;
            }
            0x8c => {
                let [n] = self.take::<1>()?;
                self.text(n.into())?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Values that are kept to be used again; whether the instruction is one of these.
    fn put_or_get(&mut self, code: u8) -> Result<bool, String> {
        match code {
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => {
                let [n] = self.take::<1>()?;
                self.put(n.into())?;
            }
            b'r' => {
                let n = u32::from_le_bytes(self.take()?);
                self.put(n.into())?;
            }
            0x94 => self.put(self.memo.len() as u64)?,
            b'h' => {
                let [n] = self.take::<1>()?;
                self.get(n.into())?;
            }
            b'j' => {
                let n = u32::from_le_bytes(self.take()?);
                self.get(n.into())?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Tuples, dictionaries and lists; whether the instruction is one of these.
    fn collection(&mut self, code: u8) -> Result<bool, String> {
        match code {
            b')' => self.push(Value::tuple(vec![]))?,
            b't' => {
                let values = self.since_mark()?;
                self.push(Value::tuple(values))?;
            }
            // TUPLE1 to TUPLE3
            0x85..=0x87 => {
                let mut values = Vec::new();
                for _ in 0x84..code {
                    values.insert(0, self.pop()?);
                }
                self.push(Value::tuple(values))?;
            }
            b'}' => self.push(Value::Dict(Rc::default(), 1))?,
            // SETITEM, SETITEMS
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(vec![key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set_items(items)?;
            }
            // APPEND, APPENDS: lists are opaque.
            b'a' => drop(self.pop()?),
            b'e' => drop(self.since_mark()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Classes, calls and storages; whether the instruction is one of these.
    fn object(&mut self, code: u8) -> Result<bool, String> {
        match code {
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(format!("{module}.{name}").into()))?;
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => {
                    self.push(Value::Global(format!("{module}.{name}").into()))?;
                }
                _ => return Err("a class without a name".into()),
            },
            // REDUCE, BUILD, BINPERSID
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.push(call(&function, &arguments)?)?;
            }
            b'b' => drop(self.pop()?),
            b'Q' => {
                let id = self.pop()?;
                self.push(storage(&id).ok_or("a persistent object that is no storage")?)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) = self.rest.split_first_chunk().ok_or("an end in mid-instruction")?;
        self.rest = rest;
        Ok(*head)
    }

    fn bytes(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or("an end in mid-instruction")?;
        self.rest = rest;
        Ok(head)
    }

    fn long(&mut self, n: usize) -> Result<i64, String> {
        let bytes = self.bytes(n)?;
        let sign = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut all = [sign; 8];
        let room = all.get_mut(..n).ok_or("an integer of more than 8 bytes")?;
        room.copy_from_slice(bytes);
        Ok(i64::from_le_bytes(all))
    }

    fn text(&mut self, n: usize) -> Result<(), String> {
        let text = std::str::from_utf8(self.bytes(n)?).map_err(|e| e.to_string())?;
        self.push(Value::Text(text.into()))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let n = self.rest.iter().position(|b| *b == b'\n').ok_or("an end in mid-line")?;
        let line = self.bytes(n)?;
        self.bytes(1)?;
        std::str::from_utf8(line).map_err(|e| e.to_string())
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        if value.depth() > MAX_DEPTH {
            return Err(format!("values nested more than {MAX_DEPTH} deep"));
        }
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Result<Value, String> {
        if self.marks.last() == Some(&self.stack.len()) {
            return Err("a mark where a value is needed".into());
        }
        self.stack.pop().ok_or_else(|| "an empty stack".into())
    }

    fn put(&mut self, at: u64) -> Result<(), String> {
        let value = self.stack.last().ok_or("an empty stack")?;
        self.memo.insert(at, value.clone());
        Ok(())
    }

    fn get(&mut self, at: u64) -> Result<(), String> {
        let value = self.memo.get(&at).ok_or("a value that was never stored")?.clone();
        self.push(value)
    }

    fn since_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.marks.pop().ok_or("values without a mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn set_items(&mut self, items: Vec<Value>) -> Result<(), String> {
        let depth = 1 + items.iter().map(Value::depth).max().unwrap_or(0);
        if depth > MAX_DEPTH {
            return Err(format!("values nested more than {MAX_DEPTH} deep"));
        }
        match self.stack.last_mut() {
            Some(Value::Dict(entries, own)) => {
                let entries = Rc::make_mut(entries);
                let mut items = items.into_iter();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    entries.push((key, value));
                }
                *own = depth.max(*own);
                Ok(())
            }
            Some(Value::Opaque) => Ok(()),
            _ => Err("items of what is no dictionary".into()),
        }
    }
}
