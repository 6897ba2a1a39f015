//! `ci`: everything that must pass before a change is taken, cheapest first.

use anyhow::{Context as _, Result};
use std::process::Stdio;

use crate::exit::note;
use crate::test::TestArgs;
use crate::workspace::Workspace;
use crate::{process, setup, test, tidy};

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    for component in ["fmt", "clippy"] {
        let mut probe = process::cargo(workspace);
        probe.args([component, "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
        process::run(&mut probe, component).with_context(|| {
            format!(
                "`cargo {component}` is missing; install it (`rustup component add rustfmt clippy`)"
            )
        })?;
    }
    step("format");
    let mut fmt = process::cargo(workspace);
    process::run(fmt.args(["fmt", "--all", "--check"]), "the format check")?;

    step("tidy");
    tidy::run(workspace)?;

    step("clippy");
    setup::ensure(workspace)?;
    let mut clippy = process::cargo(workspace);
    clippy.args(["clippy", "--workspace", "--all-targets", "--all-features"]);
    process::run(clippy.args(["--", "--deny", "warnings"]), "clippy")?;

    step("documentation");
    let mut doc = process::cargo(workspace);
    doc.args(["doc", "--workspace", "--all-features", "--no-deps"]);
    process::run(doc.env("RUSTDOCFLAGS", "--deny warnings"), "building the documentation")?;

    step("tests");
    test::run(workspace, &TestArgs::default())
}

fn step(name: &str) {
    note(&format!("==> {name}"));
}
