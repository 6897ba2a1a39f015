//! What runs read.

use std::path::{Path, PathBuf};

use sae_config::{CheckedRun, HUB_PREFIX};
use sae_data::{Port, Ports, open_store};
use sae_models::{TrainedOn, checkpoint_origin};
use sae_train::origin;

use crate::failure::{Blame as _, Failure};
use crate::output::note;

/// The files and folders that a run reads.
pub(super) fn inputs(config: &CheckedRun) -> Vec<&Path> {
    let data = &config.data;
    let single = Some(data.store.as_path()).filter(|store| !store.as_os_str().is_empty());
    let stores = data.stores.iter().map(|store| store.path.as_path());
    let others = [&data.target, &data.rows, &config.training.init].into_iter().flatten();
    let live = data.live.iter().flat_map(|live| {
        let corpus = live.corpus.path.iter().filter(|path| !path.starts_with(HUB_PREFIX));
        std::iter::once(live.host.as_path()).chain(corpus.map(Path::new))
    });
    single.into_iter().chain(stores).chain(others.map(PathBuf::as_path)).chain(live).collect()
}

/// Says where a checkpoint to start from comes from another host or hook point: that is a transfer.
pub(super) fn say_if_elsewhere(init: &Path, ports: &Ports<Port>) -> Result<(), Failure> {
    let of_init = checkpoint_origin(init).or_usage()?;
    let say = |of_init: &TrainedOn, port: &Port| {
        for difference in of_init.elsewhere(&origin(port).or_usage()?) {
            note!("note: training.init: {}: {difference}", init.display());
        }
        Ok(())
    };
    say(&of_init, &ports.input)?;
    match (&of_init.target, &ports.target) {
        (Some(of_init), Some(target)) => say(of_init, target),
        _ => Ok(()),
    }
}

/// Says where the rows to rebuild are of another host than those that are encoded, or were harvested in
/// another way.
pub(super) fn say_of_target(ports: &Ports<Port>) -> Result<(), Failure> {
    let Some(target) = &ports.target else { return Ok(()) };
    let (ours, theirs) = (origin(&ports.input).or_usage()?, origin(target).or_usage()?);
    let of_host = ours.elsewhere(&theirs).into_iter().filter(|found| found.what == "host");
    let otherwise = ours.made_otherwise(&theirs).into_iter();
    for difference in of_host.chain(otherwise.filter(|found| found.what != "element type")) {
        let place = target.place.display();
        note!("note: data.target: {place}: {difference}, where the input has the former");
    }
    Ok(())
}

/// Opens each store, so that one that cannot be is a mistake of usage; gives back the ports, that of
/// the input being of the first store.
pub(super) fn store_ports(config: &CheckedRun) -> Result<Ports<Port>, Failure> {
    let port = |path: &PathBuf| Ok::<_, Failure>(Port::of_store(&*open_store(path).or_usage()?));
    let data = &config.data;
    let single = data.stores.is_empty().then_some(&data.store);
    let all = single.into_iter().chain(data.stores.iter().map(|part| &part.path));
    let mut ports = all.map(port).collect::<Result<Vec<_>, _>>()?.into_iter();
    let input = ports.next().expect("a configuration names a store");
    Ok(Ports { input, target: data.target.as_ref().map(port).transpose()? })
}
