//! `--suite`: scores with intervals, beside those of worthless dictionaries.

mod against;
mod floors;
mod kept;
mod probes;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sae_config::{Evaluation, Scores, Suite};
use sae_data::{ActivationStore, PlantedTruth};
use sae_eval::{CoreObserver, EvaluateOptions, Observer, TruthObserver, observe};
use sae_models::Sae;

use self::floors::Floors;
use self::kept::Kept;
use self::probes::Probes;
use super::splice::Spliced;
use super::{Stores, interventions, pass};
use crate::cli::{ALL_SUITES, EvalArgs};
use crate::commands::{Differences, check_dimension};
use crate::failure::{Blame as _, Failure};
use crate::output::note;
use crate::progress::Progress;

/// The suites that were asked for, and what they read beside the store.
pub(super) struct Suites {
    wanted: Vec<Suite>,
    probes: Vec<Probes>,
    against: Vec<Sae>,
    floors: Option<Floors>,
    kept: Kept,
}

impl Suites {
    /// Opens what the suites need and says what each costs; none where none was asked for.
    ///
    /// A suite that was named and lacks what it needs is refused; `all` leaves it out and says so.
    pub(super) fn open(
        args: &EvalArgs,
        sae: &Sae,
        store: &Arc<dyn ActivationStore>,
        truth: Option<&PlantedTruth>,
        spliced: Option<&Spliced>,
        found: &mut Differences,
    ) -> Result<Option<Self>, Failure> {
        let mut suites = Self {
            wanted: wanted(args, sae, truth, spliced)?,
            probes: Vec::new(),
            against: Vec::new(),
            floors: None,
            kept: Kept::open(args.floors.clone())?,
        };
        if suites.wanted.is_empty() {
            return Ok(None);
        }
        if suites.wants(Suite::Probing) {
            for path in &args.probes {
                let probes = Probes::open(path, sae, args, found)?;
                let is_there = |other: &Probes| other.is_same(&probes);
                if suites.probes.iter().any(is_there) {
                    return Err(twice("--probes", path));
                }
                suites.probes.push(probes);
            }
        }
        if suites.wants(Suite::Stability) {
            suites.against = against::open(args, sae, found)?;
        }
        // Those of a transcoder are of two ports, which have no dictionary in common.
        if !args.no_floors && !sae.config().is_transcoder() {
            suites.floors = Some(Floors::open(args, store, found, &sae.trained_on)?);
        }
        suites.announce(sae, store.n_rows());
        Ok(Some(suites))
    }

    pub(super) fn wants(&self, suite: Suite) -> bool {
        self.wanted.contains(&suite)
    }

    /// The suites that are measured, each with the version of its scores.
    fn versions(&self) -> BTreeMap<Suite, u32> {
        self.wanted.iter().map(|suite| (*suite, suite.version())).collect()
    }

    /// Says what each suite will cost.
    fn announce(&self, sae: &Sae, n_rows: u64) {
        let (d, f) = (sae.config().d_model as f64, sae.config().n_features as f64);
        let tera = |rows: u64| 2.0 * rows as f64 * d * f / 1e12;
        for suite in &self.wanted {
            let cost = match suite {
                Suite::Core => format!("one pass over {n_rows} rows ({:.2} TFLOP)", tera(n_rows)),
                Suite::Truth => format!("the same pass, and a matching of {f} features"),
                Suite::Probing => {
                    let rows: u64 = self.probes.iter().map(Probes::n_rows).sum();
                    let n = self.probes.iter().map(Probes::n_tasks).sum::<usize>();
                    let work = tera(rows);
                    format!(
                        "a pass over {rows} labelled rows ({work:.2} TFLOP), {n} tasks of probes"
                    )
                }
                Suite::Stability => {
                    let each = f.powi(3) / 1e9;
                    let n = self.against.len();
                    format!(
                        "{n} comparisons, each a pass and two matchings of {each:.1} G operations"
                    )
                }
                Suite::Interventions => interventions::cost(),
                Suite::Vision => "the images once to the hook point, and through --encoder".into(),
            };
            note!("suite {}: {cost}", suite.name());
        }
        if self.floors.is_some() {
            note!("{}", Floors::cost(&self.kept));
        }
    }

    /// Adds the scores that are not of the pass over the store.
    pub(super) fn measure(
        &self,
        sae: &Sae,
        stores: &Stores,
        evaluation: &mut Evaluation,
    ) -> Result<(), Failure> {
        evaluation.suites = self.versions();
        if self.wants(Suite::Probing) {
            let probed = probes::measure_and_keep(sae, &self.probes, &self.kept)?;
            evaluation.scores.extend(probed.scores);
            evaluation.probes = probed.tasks;
        }
        if self.wants(Suite::Stability) {
            evaluation.scores.extend(against::scores(sae, &self.against, &*stores.input)?);
        }
        Ok(())
    }

    /// Adds what worthless dictionaries get beside each score.
    pub(super) fn add_floors(
        &self,
        sae: &Sae,
        stores: &Stores,
        whole: &Stores,
        truth: Option<&PlantedTruth>,
        spliced: Option<&Spliced>,
        evaluation: &mut Evaluation,
    ) -> Result<(), Failure> {
        let Some(floors) = &self.floors else { return Ok(()) };
        let dense: Vec<_> = evaluation.probes.iter().map(|task| task.dense.clone()).collect();
        let spliced = spliced.filter(|of| Suite::ALL.iter().any(|s| self.wants(*s) && of.can(*s)));
        let measure = |others: &[&Sae]| {
            let mut all = Vec::new();
            for other in others {
                let mut scores = self.pass(other, stores, whole, truth)?;
                if self.wants(Suite::Probing) {
                    scores.extend(probes::measure(other, &self.probes, Some(&dense))?.scores);
                }
                all.push(scores);
            }
            if let Some(spliced) = spliced {
                let more = spliced.floors(others)?;
                all.iter_mut().zip(more).for_each(|(scores, more)| scores.extend(more));
            }
            Ok(all)
        };
        let measured = floors.measure(self, sae, evaluation.sparsity.l0_mean, spliced, measure)?;
        for (kind, scores) in measured {
            for (name, value) in scores {
                if let Some(score) = evaluation.scores.get_mut(&name) {
                    score.floors.insert(kind, value);
                }
            }
        }
        Ok(())
    }

    /// The scores of a pass over the store, of a dictionary of which nothing else is asked.
    fn pass(
        &self,
        sae: &Sae,
        stores: &Stores,
        whole: &Stores,
        truth: Option<&PlantedTruth>,
    ) -> Result<Scores, Failure> {
        let mut scores = Scores::new();
        if self.wants(Suite::Core) {
            let mut core = CoreObserver::new(sae, stores.input.n_rows());
            pass("worthless", sae, stores, &mut [&mut core])?;
            scores.extend(core.finish().or_run()?);
        }
        if let Some(truth) = truth.filter(|_| self.wants(Suite::Truth)) {
            let mut found = TruthObserver::new(sae, &*whole.input, truth).or_run()?;
            pass("worthless", sae, whole, &mut [&mut found])?;
            scores.extend(found.scores().or_run()?);
        }
        Ok(scores)
    }
}

/// The suites that are asked for by name, or of all of them those that have what they need.
fn wanted(
    args: &EvalArgs,
    sae: &Sae,
    truth: Option<&PlantedTruth>,
    spliced: Option<&Spliced>,
) -> Result<Vec<Suite>, Failure> {
    let is_all = args.suite.iter().any(|name| name == ALL_SUITES);
    let mut wanted = Vec::new();
    for suite in Suite::ALL {
        if !is_all && !args.suite.iter().any(|name| name == suite.name()) {
            continue;
        }
        let has_what_it_needs = match suite {
            Suite::Core => true,
            Suite::Truth => truth.is_some(),
            // Of transcoders a store has no rows of what is rebuilt.
            Suite::Probing => !args.probes.is_empty() && !sae.config().is_transcoder(),
            Suite::Stability => !args.against.is_empty() && !sae.config().is_transcoder(),
            Suite::Interventions | Suite::Vision => spliced.is_some_and(|of| of.can(suite)),
        };
        match has_what_it_needs {
            true => wanted.push(suite),
            false if is_all && sae.config().is_transcoder() => {
                note!("suite {}: left out, it needs {}, and an SAE", suite.name(), suite.needs());
            }
            false if is_all => {
                note!("suite {}: left out, it needs {}", suite.name(), suite.needs());
            }
            false => {
                let (name, needs) = (suite.name(), suite.needs());
                let error = anyhow::anyhow!("--suite {name}: expected {needs}, and an SAE");
                return Err(Failure::usage(error));
            }
        }
    }
    Ok(wanted)
}

/// What counts once counts twice where it is given twice, and what is compared with itself agrees.
fn twice(key: &str, path: &Path) -> Failure {
    let path = path.display();
    Failure::usage(anyhow::anyhow!("{key} {path}: expected it once, got what is there already"))
}

/// A pass with one observer.
fn observe_one(
    name: &'static str,
    sae: &Sae,
    store: &dyn ActivationStore,
    observer: &mut dyn Observer,
) -> Result<(), Failure> {
    let mut progress = Progress::new(name, "rows", store.n_rows());
    let report = &mut |done, _| progress.at(done, String::new);
    observe(sae, store, EvaluateOptions::default(), &mut [observer], report).or_run()
}
