//! The batches of a run: as their source gives them on the CPU, brought along under the steps before
//! on a GPU.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use sae_data::{BatchSource, Ports, StreamPosition};
use tch::{Device, Kind, Tensor};
use tch_autograd::{Upload, read, view_mut};

use crate::{Error, Result};

/// Batches that exist at a time on a GPU: one that a step reads, one that is copied, one that is
/// filled.
pub(crate) const STAGED: usize = 3;

/// A stream of batches, whose place is that of the batches that were given, however many are on
/// their way.
pub(crate) enum Batches {
    /// Filled when they are asked for.
    Plain(Box<dyn BatchSource>),
    /// Filled and copied ahead.
    Staged(Box<Staged>),
}

impl Batches {
    /// The batches of `source` for steps on `device`.
    pub(crate) fn new(source: Box<dyn BatchSource>, device: Device) -> Result<Self> {
        if read::waits(device) {
            Ok(Self::Staged(Box::new(Staged::new(source, device)?)))
        } else {
            Ok(Self::Plain(source))
        }
    }

    /// The next batch `[batch_size, dimension]` of each port, of f32; read it before the next one is
    /// asked for.
    pub(crate) fn next(&mut self) -> Result<Ports<Tensor>> {
        match self {
            Self::Plain(source) => {
                let n_rows = source.batch_size() as i64;
                let mut batch = source.ports().as_ref().map(|port| {
                    let shape = [n_rows, port.dimension as i64];
                    Tensor::empty(shape, (Kind::Float, Device::Cpu))
                });
                source.next_batch(batch.as_mut().try_map(|rows| view_mut(rows))?)?;
                Ok(batch)
            }
            Self::Staged(staged) => staged.next(),
        }
    }

    /// Where the batch after the last one that was given begins.
    pub(crate) fn position(&self) -> StreamPosition {
        match self {
            Self::Plain(source) => source.position(),
            Self::Staged(staged) => staged.position.clone(),
        }
    }
}

/// A thread that fills batches, and the copies of those that are filled.
pub(crate) struct Staged {
    filled: Receiver<Result<Filled>>,
    /// Absent when the thread is to end.
    empty: Option<Sender<Ports<Upload>>>,
    thread: Option<JoinHandle<()>>,
    /// The batch that was given last.
    current: Option<Ports<Upload>>,
    /// The one after it, where it is being copied.
    ahead: Option<Result<Filled>>,
    position: StreamPosition,
}

struct Filled {
    batch: Ports<Upload>,
    /// Where the batch after it begins.
    position: StreamPosition,
}

impl Staged {
    fn new(source: Box<dyn BatchSource>, device: Device) -> Result<Self> {
        let (to_fill, empty) = (channel(), channel());
        let position = source.position();
        for _ in 0..STAGED {
            let n_rows = source.batch_size();
            let upload = |port: &sae_data::Port| Upload::new(n_rows, port.dimension, device);
            let batch = source.ports().as_ref().try_map(upload);
            // The receiver is here.
            let _ = empty.0.send(batch.map_err(Error::Upload)?);
        }
        let (filled, receiver) = to_fill;
        let thread = std::thread::Builder::new()
            .name("staging".into())
            .spawn(move || fill(source, &empty.1, &filled))
            .map_err(Error::Thread)?;
        let (current, ahead) = (None, None);
        Ok(Self {
            filled: receiver,
            empty: Some(empty.0),
            thread: Some(thread),
            current,
            ahead,
            position,
        })
    }

    fn next(&mut self) -> Result<Ports<Tensor>> {
        if let (Some(mut read), Some(empty)) = (self.current.take(), &self.empty) {
            read.as_mut().try_map(Upload::release).map_err(Error::Upload)?;
            // A thread that has ended has sent its error, which comes in its turn.
            let _ = empty.send(read);
        }
        let next = match self.ahead.take() {
            Some(next) => next,
            None => match self.filled.recv() {
                Ok(filled) => start(filled),
                Err(_) => Err(sae_data::Error::Stopped.into()),
            },
        };
        let Filled { mut batch, position } = next?;
        let rows = batch.as_mut().try_map(Upload::join).map_err(Error::Upload)?;
        (self.current, self.position) = (Some(batch), position);
        self.ahead = self.filled.try_recv().ok().map(start);
        Ok(rows)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        self.empty = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has printed why; there is nothing to add while dropping.
            let _ = thread.join();
        }
    }
}

/// Queues the copy of a batch that is filled.
fn start(filled: Result<Filled>) -> Result<Filled> {
    let mut filled = filled?;
    filled.batch.as_mut().try_map(Upload::start).map_err(Error::Upload)?;
    Ok(filled)
}

/// Fills batches in the order of the source until nobody wants more, or one cannot be filled.
fn fill(
    mut source: Box<dyn BatchSource>,
    empty: &Receiver<Ports<Upload>>,
    filled: &Sender<Result<Filled>>,
) {
    while let Ok(mut batch) = empty.recv() {
        let result = fill_one(source.as_mut(), &mut batch);
        let position = source.position();
        let failed = result.is_err();
        if filled.send(result.map(|()| Filled { batch, position })).is_err() || failed {
            return;
        }
    }
}

fn fill_one(source: &mut dyn BatchSource, batch: &mut Ports<Upload>) -> Result<()> {
    let rows = batch.as_mut().try_map(|batch| {
        let rows = batch.host().map_err(Error::Upload)?;
        Ok::<_, Error>(view_mut(rows)?)
    })?;
    Ok(source.next_batch(rows)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use sae_data::{
        ActivationStore, Dtype, Loader, LoaderConfig, RowMeta, StoreSpec, StoreWriter, open_store,
        zip,
    };

    use super::*;

    /// 50 rows of width 4, the last of them not finite where that is wanted.
    fn store(folder: &std::path::Path, breaks: bool) -> Arc<dyn ActivationStore> {
        let path = folder.join("x_50_4.bin");
        let mut values: Vec<f32> = (0..200).map(|i| i as f32).collect();
        if breaks {
            values[199] = f32::NAN;
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            std::fs::write(folder.join("x_50_4.npy"), bytes).unwrap();
            return open_store(&folder.join("x_50_4.npy")).unwrap();
        }
        let mut writer = StoreWriter::create(&path, StoreSpec::new(4, Dtype::F32)).unwrap();
        for (row, values) in values.chunks(4).enumerate() {
            let meta = RowMeta { token_id: 0, document: 0, position: row as u32 };
            writer.append(values, &[meta]).unwrap();
        }
        writer.finish().unwrap();
        open_store(&path).unwrap()
    }

    fn config(seed: u64) -> LoaderConfig {
        LoaderConfig { batch_size: 7, seed, ..LoaderConfig::default() }
    }

    fn open(
        stores: &Ports<Arc<dyn ActivationStore>>,
        config: LoaderConfig,
    ) -> Box<dyn BatchSource> {
        Box::new(Loader::open(stores.clone(), config).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn staged_batches_and_places_are_those_of_the_loader(
            seed in any::<u64>(),
            n in 1usize..20,
            pause in any::<bool>(),
            has_target in any::<bool>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let store = store(folder.path(), false);
            let stores = if has_target {
                zip(Arc::clone(&store), Arc::clone(&store)).unwrap()
            } else {
                store.into()
            };
            let loader = || open(&stores, config(seed));
            let mut plain = Batches::new(loader(), Device::Cpu).unwrap();
            let mut staged = read::as_on_a_gpu(|| Batches::new(loader(), Device::Cpu).unwrap());
            prop_assert!(matches!(staged, Batches::Staged(_)));
            prop_assert_eq!(plain.position(), staged.position());
            for _ in 0..n {
                let rows = staged.next().unwrap();
                if pause {
                    // Time for the batches ahead, which must not reach the one that is read.
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                prop_assert_eq!(rows, plain.next().unwrap());
                prop_assert_eq!(plain.position(), staged.position());
            }
            // What was on its way is lost, and comes again.
            let place = staged.position();
            drop(staged);
            let mut resumed = loader();
            resumed.resume(&place).unwrap();
            let mut resumed = read::as_on_a_gpu(|| Batches::new(resumed, Device::Cpu).unwrap());
            for _ in 0..4 {
                prop_assert_eq!(resumed.next().unwrap(), plain.next().unwrap());
            }
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_stops_the_step_that_needs_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), true);
        // Windows of 8 rows, so that rows before the faulty one are given.
        let config = |seed| LoaderConfig { block_bytes: 32, window_bytes: 128, ..config(seed) };
        let until_error = |mut batches: Batches| {
            let mut given = 0;
            loop {
                match batches.next() {
                    Ok(_) => given += 1,
                    Err(error) => return (given, error.to_string(), batches.next().is_err()),
                }
            }
        };
        let mut most = 0;
        let stores = store.into();
        for seed in 0..8 {
            let loader = || open(&stores, config(seed));
            let plain = until_error(Batches::new(loader(), Device::Cpu).unwrap());
            let staged = read::as_on_a_gpu(|| Batches::new(loader(), Device::Cpu).unwrap());
            let staged = until_error(staged);
            assert!(plain.1.contains("expected a finite value"), "{}", plain.1);
            assert_eq!(plain, staged, "seed {seed}");
            most = most.max(staged.0);
        }
        assert!(most > STAGED, "batches were on their way when the fault was met");
    }
}
