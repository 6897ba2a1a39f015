//! A stream that cannot be read on.

use std::sync::atomic::AtomicBool;

use sae_config::CheckedRun;
use sae_data::{BatchSource, Port, Ports, Statistics, StreamPosition};
use sae_train::{Opened, RunOptions, open_stores, train_runs};

use super::run;
use crate::support::write_store;

/// A source that runs out of memory after some batches.
#[derive(Debug)]
struct Failing(Box<dyn BatchSource>, u64);

impl BatchSource for Failing {
    fn ports(&self) -> &Ports<Port> {
        self.0.ports()
    }

    fn batch_size(&self) -> usize {
        self.0.batch_size()
    }

    fn next_batch(&mut self, batch: Ports<&mut [f32]>) -> sae_data::Result<()> {
        let Some(left) = self.1.checked_sub(1) else {
            let text = "CUDA out of memory. Tried to allocate 2.00 GiB.";
            return Err(sae_data::Error::Source(text.into()));
        };
        self.1 = left;
        self.0.next_batch(batch)
    }

    fn position(&self) -> StreamPosition {
        self.0.position()
    }

    fn resume(&mut self, position: &StreamPosition) -> sae_data::Result<()> {
        self.0.resume(position)
    }

    fn identity(&self) -> sae_data::Result<String> {
        self.0.identity()
    }

    fn statistics(&mut self) -> sae_data::Result<Ports<Statistics>> {
        self.0.statistics()
    }
}

#[test]
fn a_fault_of_the_stream_names_the_steps_that_were_done() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    write_store(&store, 7);
    let runs: Vec<_> = [0, 5].map(|i| (run(&store, i, 20), dir.path().join(i.to_string()))).into();
    let all: Vec<_> = runs.iter().map(|(config, out)| (config, out.as_path())).collect();
    let open = |config: &CheckedRun| -> sae_train::Result<Opened> {
        let Opened { source, filtered, stores } = open_stores(config)?;
        Ok(Opened { source: Box::new(Failing(source, 3)), filtered, stores })
    };
    let stop = AtomicBool::new(false);
    let options = RunOptions { open: &open, resume: false, stop: &stop };
    let error = train_runs(&all, &options, &mut |_, _| ()).unwrap_err().to_string();
    assert!(
        error.starts_with("after 3 steps: out of memory on cpu: CUDA out of memory"),
        "{error}"
    );
}
