//! The runs of sweeps, and what is refused.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const SWEEP: &str = r#"
    [stores]
    train = "a"
    held_out = "b"
    [base.sae]
    n_features = 64
    [base.training]
    steps = 100
    batch_size = 8
    [architectures.soft]
    hard_steps = 10
    lr = 1e-3
    auxk = { weight = 0.1 }
    [axes]
    architecture = ["topk", "soft"]
    k = [4, 8]
    [[extra]]
    architecture = "topk"
    k = 16
    seed = 3
"#;

fn sweep(text: &str) -> SweepConfig {
    toml::from_str(text).unwrap()
}

fn error(change: impl FnOnce(&mut SweepConfig)) -> String {
    let mut sweep = sweep(SWEEP);
    change(&mut sweep);
    let Err(error) = sweep.points() else { panic!("accepted") };
    error.to_string()
}

#[test]
fn the_product_of_the_axes_and_the_extra_runs() {
    let points = sweep(SWEEP).points().unwrap();
    let names: Vec<String> = points.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            r#"architecture = "topk", k = 4"#,
            r#"architecture = "topk", k = 8"#,
            r#"architecture = "soft", k = 4"#,
            r#"architecture = "soft", k = 8"#,
            r#"architecture = "topk", k = 16, seed = 3"#,
        ]
    );
    assert_eq!(points[0].value("auxk.weight"), Some(json!(1.0 / 32.0)));
    assert_eq!(points[2].value("auxk.weight"), Some(json!(0.1)));
    assert_eq!(points[2].value("lr"), Some(json!(1e-3)));
    assert_eq!(points[3].value("architecture"), Some("soft".into()));
    assert_eq!(points[4].value("training.seed"), Some(json!(3)));
    assert_eq!(points[4].value("nonsense"), None);
}

#[test]
fn an_axis_beats_the_settings_of_an_architecture() {
    let mut sweep = sweep(SWEEP);
    sweep.axes.insert("lr".into(), Value::Array(vec![Value::Float(0.5)]));
    assert!(sweep.points().unwrap()[..4].iter().all(|p| p.config.training.lr == Some(0.5)));
}

#[test]
fn variants_are_combined_with_the_axes() {
    let mut sweep = sweep(SWEEP);
    sweep.axes.remove("architecture");
    sweep.variants = toml::from_str(
        "TopK = { architecture = 'topk' }\n'all the way' = { architecture = 'soft', \
         selection_gradient = 'full', hard_steps = 3 }",
    )
    .unwrap();
    let points = sweep.points().unwrap();
    let variants: Vec<_> = points.iter().map(|p| p.variant.as_deref()).collect();
    let (top, all) = (Some("TopK"), Some("all the way"));
    assert_eq!(variants, [top, top, all, all, None]);
    sweep.extra[0].insert("variant".into(), "another".into());
    assert_eq!(sweep.points().unwrap()[4].variant.as_deref(), Some("another"));
    assert_eq!(points[3].value("selection_gradient"), Some("full".into()));
    assert_eq!(points[3].value("hard_steps"), Some(3.into()));
    assert_eq!(points[3].value("k"), Some(8.into()));
    assert_eq!(points[2].value("lr"), Some(json!(1e-3)));
    sweep.variants.insert("k".into(), toml::from_str::<Table>("k = 5").unwrap().into());
    let twice = sweep.points().unwrap_err().to_string();
    assert_eq!(
        twice,
        "`variants.k`: expected settings beside the axes, got `k`, which is varied by `axes.k`"
    );
    sweep.variants.insert("k".into(), 5.into());
    let plain = sweep.points().unwrap_err().to_string();
    assert_eq!(plain, "`variants.k`: expected a table of settings, got 5");
}

#[test]
fn a_preset_names_the_architecture_whose_settings_hold() {
    let mut sweep = sweep(SWEEP);
    sweep.axes.remove("architecture");
    sweep.extra.clear();
    sweep.base.remove("training");
    sweep.base.insert("preset".into(), "softsae-llm".into());
    let points = sweep.points().unwrap();
    assert_eq!(points.len(), 2);
    assert_eq!(points[0].value("hard_steps"), Some(json!(10)));
    assert_eq!(points[0].value("auxk.weight"), Some(json!(0.1)));
    assert_eq!(points[0].value("parity"), Some(json!("official")));
    sweep.base.remove("sae");
    for preset in ["paper-clip", "paper-llm"] {
        sweep.base.insert("preset".into(), preset.into());
        let points = sweep.points().unwrap();
        assert_eq!(points[1].value("budget"), Some(json!("one_sided")), "{preset}");
        assert_ne!(points[1].value("parity"), Some(json!("official")), "{preset}");
    }
}

#[test]
fn without_axes_the_base_or_the_extra_runs() {
    let mut sweep = sweep(SWEEP);
    sweep.axes.clear();
    sweep.architectures.clear();
    assert_eq!(sweep.points().unwrap().len(), 1);
    sweep.extra.clear();
    keys::set(&mut sweep.base, "architecture.name", &"topk".into()).unwrap();
    keys::set(&mut sweep.base, "architecture.k", &5.into()).unwrap();
    assert_eq!(sweep.points().unwrap()[0].to_string(), "base");
}

#[test]
fn errors_name_run_key_expected_and_got() {
    let too_large = error(|s| s.axes["k"] = Value::Array(vec![64.into()]));
    assert_eq!(
        too_large,
        "run `architecture = \"topk\", k = 64`: `architecture.k`: \
         expected more than 0 and less than sae.n_features = 64, got 64"
    );
    let unknown = error(|s| drop(s.axes.insert("kk".into(), Value::Array(vec![1.into()]))));
    assert!(unknown.contains("kk = 1") && unknown.contains("unknown field `kk`"), "{unknown}");
    let wrong_type = error(|s| s.axes["k"] = Value::Array(vec!["four".into()]));
    assert!(wrong_type.contains("invalid type: string \"four\""), "{wrong_type}");
    let name = error(|s| s.axes["architecture"] = Value::Array(vec!["tpok".into()]));
    assert!(name.contains("unknown variant `tpok`"), "{name}");
    let scalar = error(|s| s.axes["k"] = 4.into());
    assert_eq!(scalar, "`axes.k`: expected a list of at least one value, got 4");
    let twice = error(|s| s.extra.push(toml::from_str("architecture = 'topk'\nk = 4").unwrap()));
    assert!(twice.contains("got architecture = \"topk\", k = 4 twice"), "{twice}");
    let both = error(|s| {
        s.axes.insert("architecture.k".into(), Value::Array(vec![4.into()]));
    });
    assert!(both.contains("expected each key once"), "{both}");
    let unused = error(|s| drop(s.architectures.insert("gated".into(), Table::new())));
    assert!(unused.starts_with("`architectures.gated`"), "{unused}");
    let idle = error(|s| {
        let axes: Table = toml::from_str("axes.target_l0 = [4]").unwrap();
        s.architectures.insert("jumprelu".into(), axes);
        s.extra.push(toml::from_str("architecture = 'jumprelu'\ntarget_l0 = 6").unwrap());
    });
    assert!(idle.starts_with("`architectures.jumprelu.axes`: expected an arch"), "{idle}");
    let place = error(|s| {
        s.axes.insert("device".into(), Value::Array(vec!["cpu".into(), "cuda:0".into()]));
    });
    assert!(place.contains("device = \"cuda:0\"`, which are one run"), "{place}");
    let plain = error(|s| drop(s.extra[0].insert("training.steps.x".into(), 1.into())));
    assert!(plain.contains("`training.steps`: expected a table"), "{plain}");
}

#[test]
fn where_activations_come_from_is_no_setting_of_a_run() {
    let store = error(|s| keys::set(&mut s.base, "data.store", &"x".into()).unwrap());
    assert!(store.starts_with("`base.data.store`"), "{store}");
    let target = error(|s| keys::set(&mut s.base, "data.target", &"x".into()).unwrap());
    assert!(target.starts_with("`base.data.target`"), "{target}");
    let axis = ["x"].map(Value::from).to_vec();
    let target = error(|s| drop(s.axes.insert("target".into(), axis.clone().into())));
    let expected = "`data.target`: expected nothing: the sweep provides the activations";
    assert!(target.contains(expected), "{target}");
    for key in ["hook", "window_bytes"] {
        let hook = error(|s| drop(s.axes.insert(key.into(), axis.clone().into())));
        let expected =
            format!("`data.{key}`: expected nothing: the sweep provides the activations");
        assert!(hook.contains(&expected), "{hook}");
        let base = error(|s| keys::set(&mut s.base, &format!("data.{key}"), &"x".into()).unwrap());
        assert!(base.starts_with(&format!("`base.data.{key}`")), "{base}");
    }
    for (place, store) in [
        ("an axis", error(|s| drop(s.axes.insert("store".into(), axis.clone().into())))),
        ("a dotted axis", error(|s| drop(s.axes.insert("data.store".into(), axis.into())))),
        (
            "an architecture",
            error(|s| {
                let own = Table::from_iter([("data.store".into(), "x".into())]);
                drop(s.architectures.insert("topk".into(), own));
            }),
        ),
    ] {
        let expected = "`data.store`: expected nothing: the sweep provides the activations";
        assert!(store.contains(expected), "{place}: {store}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn runs_are_as_many_as_the_product_and_all_differ(
        ks in 1_usize..4,
        lrs in 1_usize..4,
        pairs in 1_usize..4,
        samples in 0_usize..6,
        own in 0_usize..3,
        more in 1_usize..4,
    ) {
        let list = |n: usize, of: &dyn Fn(usize) -> String| {
            format!("[{}]", (0..n).map(of).collect::<Vec<_>>().join(", "))
        };
        let text = |samples: usize| {
            let search = "keys = { weight = { uniform = [0.0, 1.0] } }";
            let search = search.replace("weight", "'auxk.weight'");
            let search = match samples {
                0 => String::new(),
                n => format!("[search]\nsamples = {n}\n{search}\n"),
            };
            let own = match own {
                0 => String::new(),
                n => format!("axes.hard_steps = {}", list(n, &|i| (i + 1).to_string())),
            };
            format!(
                "stores = {{ train = 'a', held_out = 'b' }}\n[base]\nsae.n_features = 64\n\
                 training = {{ steps = 100, batch_size = 8 }}\n[axes]\n\
                 architecture = ['topk', 'soft']\nk = {}\nlr = {}\n\
                 [[zip]]\nseed = {}\nwarmup_steps = {}\n{search}\
                 [architectures.soft]\n{own}\n",
                list(ks, &|i| (i + 2).to_string()),
                list(lrs, &|i| format!("1e-{}", i + 2)),
                list(pairs, &|i| i.to_string()),
                list(pairs, &|i| (i * 3).to_string()),
            )
        };
        let points = |samples| sweep(&text(samples)).points().unwrap();
        let all = points(samples);
        let n_rows = ks * lrs * pairs * samples.max(1);
        prop_assert_eq!(all.len(), n_rows * (1 + own.max(1)));
        let ids: HashSet<_> = all.iter().map(|p| run_id(&p.config.check().unwrap(), "")).collect();
        prop_assert_eq!(ids.len(), all.len());
        prop_assert_eq!(&points(samples), &all, "the order is always the same");
        // Each architecture has every combination of what varies for both.
        let shared = |name: &str| -> HashSet<String> {
            let of = all.iter().filter(|p| p.config.architecture.name() == name);
            let own = |key: &String| key == "architecture" || key == "hard_steps";
            of.map(|p| {
                let rest = p.settings.iter().filter(|(key, _)| !own(key));
                format!("{:?}", rest.collect::<Vec<_>>())
            })
            .collect()
        };
        prop_assert_eq!(shared("topk").len(), n_rows);
        prop_assert_eq!(shared("topk"), shared("soft"));
        if samples > 0 {
            let ids_then: HashSet<_> =
                points(samples + more).iter().map(|p| run_id(&p.config.check().unwrap(), "")).collect();
            prop_assert!(ids.is_subset(&ids_then), "more samples keep the runs that there were");
        }
    }

    #[test]
    fn the_order_of_axes_changes_no_id(
        order in Just(vec!["architecture", "k", "seed", "lr"]).prop_shuffle(),
        long in any::<bool>(),
    ) {
        let ids = |order: &[&str], long: bool| {
            let mut sweep = sweep(SWEEP);
            sweep.architectures.clear();
            sweep.axes.clear();
            for axis in order {
                let values = match *axis {
                    "architecture" => vec!["topk".into(), "batch_topk".into()],
                    "k" => vec![3.into(), 5.into()],
                    "seed" => vec![0.into(), 1.into(), 2.into()],
                    _ => vec![Value::Float(1e-3), Value::Float(1e-4)],
                };
                let key = if long { keys::dotted_key(axis) } else { (*axis).into() };
                sweep.axes.insert(key, Value::Array(values));
            }
            let points = sweep.points().unwrap();
            let mut ids: Vec<_> = points.iter().map(|p| run_id(&p.config.check().unwrap(), "")).collect();
            ids.sort();
            ids.dedup();
            ids
        };
        let expected = ids(&["architecture", "k", "seed", "lr"], false);
        prop_assert_eq!(expected.len(), 2 * 2 * 3 * 2 + 1);
        prop_assert_eq!(ids(&order, long), expected);
    }
}
