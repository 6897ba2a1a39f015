//! `tidy`: proves the layers and the cheap house rules; a lint and a test.

mod files;
mod layers;
mod lengths;
mod packages;
mod reads;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut faults = layers::check(workspace)?;
    faults.extend(files::check(workspace.root())?);
    faults.extend(lengths::check(workspace.root())?);
    faults.extend(packages::check(workspace.root())?);
    faults.extend(reads::check(workspace.root())?);
    match faults.len() {
        0 => Ok(()),
        n => bail!("{n} faults against docs/architecture.md:\n  {}", faults.join("\n  ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        run(&Workspace::find()).unwrap();
    }
}
