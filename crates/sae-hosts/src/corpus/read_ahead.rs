//! Documents read on a thread of their own, a little ahead of whoever asks for them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use sae_data::Provenance;

use super::{Content, Document, DocumentPosition, Documents, Skipped};
use crate::{Error, Result};

/// A parcel is sent when it has so many bytes or documents.
const PARCEL_BYTES: usize = 1 << 20;
const PARCEL_DOCUMENTS: usize = 256;

/// Parcels that wait to be taken.
const N_PARCELS: usize = 4;

/// A document and how things stand after it.
struct Item {
    document: Document,
    after: Standing,
}

#[derive(Debug, Clone)]
struct Standing {
    position: DocumentPosition,
    fraction: f64,
    is_last: bool,
    skipped: Skipped,
}

/// What the thread sends: documents, and at the end how it ended.
enum Parcel {
    Items(Vec<Item>),
    End(Result<Standing>),
}

/// The documents of another corpus, read ahead.
pub(super) struct ReadAhead {
    /// The other corpus while no thread reads it.
    inner: Option<Box<dyn Documents>>,
    thread: Option<Thread>,
    ready: VecDeque<Item>,
    standing: Standing,
    provenance: Provenance,
    has_ended: bool,
}

struct Thread {
    parcels: Receiver<Parcel>,
    handle: JoinHandle<Box<dyn Documents>>,
}

impl fmt::Debug for ReadAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadAhead").field("standing", &self.standing).finish_non_exhaustive()
    }
}

impl ReadAhead {
    /// Nothing is read before the first document is asked for.
    pub(super) fn new(inner: Box<dyn Documents>) -> Self {
        let mut provenance = Provenance::default();
        inner.describe(&mut provenance);
        let standing = Standing::of(&*inner);
        let (ready, has_ended) = (VecDeque::new(), false);
        Self { inner: Some(inner), thread: None, ready, standing, provenance, has_ended }
    }

    fn start(&mut self) -> Result<()> {
        let Some(mut inner) = self.inner.take() else { return Ok(()) };
        let (sender, parcels) = sync_channel(N_PARCELS);
        let handle = std::thread::Builder::new()
            .name("corpus".to_owned())
            .spawn(move || {
                read(&mut *inner, &sender);
                inner
            })
            .map_err(|error| Error::input("corpus", "a thread that can be started", error))?;
        self.thread = Some(Thread { parcels, handle });
        Ok(())
    }

    /// Ends the thread and takes the corpus back.
    fn stop(&mut self) -> Result<()> {
        self.ready.clear();
        let Some(Thread { parcels, handle }) = self.thread.take() else { return Ok(()) };
        drop(parcels);
        match handle.join() {
            Ok(inner) => self.inner = Some(inner),
            Err(_) => return Err(stopped()),
        }
        Ok(())
    }

    /// Takes the next parcel from the thread.
    fn receive(&mut self) -> Result<()> {
        self.start()?;
        let parcel = self.thread.as_ref().and_then(|thread| thread.parcels.recv().ok());
        match parcel {
            Some(Parcel::Items(items)) => self.ready.extend(items),
            Some(Parcel::End(end)) => {
                // After an error there is no end: the thread is gone, which is told from now on.
                self.standing = end?;
                self.has_ended = true;
            }
            None => return Err(stopped()),
        }
        Ok(())
    }
}

impl Documents for ReadAhead {
    fn next(&mut self) -> Result<Option<Document>> {
        while self.ready.is_empty() && !self.has_ended {
            self.receive()?;
        }
        let Some(Item { document, after }) = self.ready.pop_front() else { return Ok(None) };
        self.standing = after;
        Ok(Some(document))
    }

    fn position(&self) -> DocumentPosition {
        self.standing.position
    }

    fn resume(&mut self, position: &DocumentPosition) -> Result<()> {
        self.stop()?;
        self.has_ended = false;
        let inner = self.inner.as_mut().ok_or_else(stopped)?;
        inner.resume(position)?;
        self.standing = Standing::of(&**inner);
        Ok(())
    }

    fn describe(&self, provenance: &mut Provenance) {
        let Provenance { text_hashes, settings, .. } = self.provenance.clone();
        provenance.text_hashes = text_hashes;
        provenance.settings.extend(settings);
    }

    fn fraction(&self) -> f64 {
        self.standing.fraction
    }

    fn is_last(&self) -> bool {
        self.standing.is_last
    }

    fn skipped(&self) -> Skipped {
        self.standing.skipped.clone()
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        // A thread that panicked has printed why; there is nothing to add while dropping.
        let _ = self.stop();
    }
}

impl Standing {
    fn of(documents: &dyn Documents) -> Self {
        Self {
            position: documents.position(),
            fraction: documents.fraction(),
            is_last: documents.is_last(),
            skipped: documents.skipped(),
        }
    }
}

fn stopped() -> Error {
    Error::Corpus { message: "corpus: the thread that reads it ended by itself".to_owned() }
}

/// Reads until the end, an error, or nobody listens any more.
fn read(inner: &mut dyn Documents, sender: &SyncSender<Parcel>) {
    let (mut items, mut n_bytes) = (Vec::new(), 0);
    let end = loop {
        match inner.next() {
            Ok(Some(document)) => {
                n_bytes += match &document.content {
                    Content::Text(text) | Content::Parts { text, .. } => text.len(),
                    Content::Ids(ids) => 4 * ids.len(),
                };
                items.push(Item { document, after: Standing::of(inner) });
                if n_bytes >= PARCEL_BYTES || items.len() >= PARCEL_DOCUMENTS {
                    n_bytes = 0;
                    if sender.send(Parcel::Items(std::mem::take(&mut items))).is_err() {
                        return;
                    }
                }
            }
            Ok(None) => break Ok(Standing::of(inner)),
            Err(error) => break Err(error),
        }
    };
    if sender.send(Parcel::Items(items)).is_ok() {
        // Nobody to tell is nobody to miss it.
        let _ = sender.send(Parcel::End(end));
    }
}
