//! `softsae features export`: feature pages as files of another tool.

use std::path::Path;

use sae_data::OutputLock;
use sae_hosts::HookPoint;
use sae_report::{Error, ExportFormat, ExportNames, SavedFeatures, export_features};
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;

use super::super::{check_apart, locked};
use crate::cli::{FeaturesExportArgs, FeaturesFormat};
use crate::failure::{Blame as _, Failure};
use crate::output::say;

pub(super) fn run(args: &FeaturesExportArgs) -> Result<(), Failure> {
    let pages = SavedFeatures::open(&args.pages).or_usage()?;
    check_apart(&args.out, &[&args.pages])?;
    let names = names(args, &pages)?;
    let format = match args.format {
        FeaturesFormat::SaeDashboard => ExportFormat::SaeDashboard,
        FeaturesFormat::Neuronpedia => ExportFormat::Neuronpedia,
    };
    let existed = args.out.exists();
    let lock = locked(OutputLock::directory(&args.out))?;
    let made = export_features(&pages, format, &names, &args.out).map_err(|error| match error {
        Error::Export { .. } | Error::Pages { .. } => Failure::usage(error),
        other => Failure::run(other),
    });
    drop(lock);
    if made.is_err() && !existed {
        // Removed only where nothing was written.
        let _ = std::fs::remove_dir(&args.out);
    }
    say!("{}", made?.display());
    Ok(())
}

/// What the tool is to call things, by the arguments and by what the pages know.
fn names(args: &FeaturesExportArgs, pages: &SavedFeatures) -> Result<ExportNames, Failure> {
    let set = pages.set();
    let unknown = |what: &str, other: &str| {
        let pages = args.pages.display();
        Failure::usage(anyhow::anyhow!(
            "{pages}: expected pages that know their {what}, got {other}"
        ))
    };
    let model = args.model.clone().or_else(|| set.host.clone());
    let model = model.ok_or_else(|| unknown("host", "none; --model NAME says it"))?;
    let hook = set.hook_point.as_ref().ok_or_else(|| unknown("hook point", "none"))?;
    let hook: HookPoint = hook.parse().or_usage()?;
    let kind = hook.to_string();
    let kind = kind.split('.').next().unwrap_or_default();
    let release = args.release.clone().unwrap_or_else(|| args.set.clone());
    let store = Path::new(&set.store).file_name().unwrap_or_default().to_string_lossy();
    Ok(ExportNames {
        model,
        layer: hook.layer,
        hook: format!("hook_{kind}"),
        description: args.description.clone().unwrap_or_else(|| args.set.clone()),
        set: args.set.clone(),
        title: args.title.clone().unwrap_or_else(|| release.clone()),
        release,
        creator: args.creator.clone(),
        creator_id: args.creator_id.clone(),
        url: args.url.clone(),
        dataset: args.dataset.clone().unwrap_or_else(|| store.into_owned()),
        created: OffsetDateTime::now_utc().format(&Iso8601::DEFAULT).or_run()?,
    })
}
