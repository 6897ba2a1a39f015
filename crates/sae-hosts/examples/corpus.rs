//! Reads a corpus from end to end and says how fast, and in how much memory.
//!
//! ```text
//! cargo run --example corpus -- CORPUS.toml TOKENIZER.json
//! ```
//!
//! The first file holds the keys of a corpus (`path = "…"`), the second is the host's tokenizer,
//! which knows the token that ends a document and the chat template.

use std::path::PathBuf;
use std::time::Instant;

use sae_config::CorpusConfig;
use sae_hosts::HostTokenizer;
use sae_hosts::corpus::{self, Content};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [config, tokenizer] = std::env::args_os()
        .skip(1)
        .map(PathBuf::from)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "expected CORPUS.toml TOKENIZER.json")?;
    let config: CorpusConfig = sae_config::read_toml(&config)?;
    let tokenizer = HostTokenizer::read(&tokenizer)?;
    let start = Instant::now();
    let mut documents = corpus::open(&config, &tokenizer)?;
    println!("opened in {:.1} s", start.elapsed().as_secs_f64());
    let (start, mut n_documents, mut n_bytes) = (Instant::now(), 0_u64, 0_u64);
    while let Some(document) = documents.next()? {
        n_documents += 1;
        n_bytes += match document.content {
            Content::Text(text) | Content::Parts { text, .. } => text.len() as u64,
            Content::Ids(ids) => 4 * ids.len() as u64,
        };
    }
    let seconds = start.elapsed().as_secs_f64();
    let rate = n_bytes as f64 / 1e6 / seconds;
    println!("{n_documents} documents, {n_bytes} bytes in {seconds:.1} s, {rate:.0} MB/s");
    println!("{} damaged files and documents left out", documents.skipped().count);
    let status = std::fs::read_to_string("/proc/self/status")?;
    if let Some(peak) = status.lines().find(|line| line.starts_with("VmHWM")) {
        println!("{peak}");
    }
    Ok(())
}
