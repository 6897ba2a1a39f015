//! Feature pages as a browser shows them from a disk.

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::features::{BROKEN, N_FEATURES, N_ROWS, TEXTS, activation, order, token, write};

/// The numbers of the features in the table.
const ROWS: &str =
    "[...document.querySelectorAll('#features tbody th')].map((th) => Number(th.textContent))";

/// Sets a control and tells the page.
fn set(browser: &mut Browser, selector: &str, value: &str, event: &str) {
    browser.value(&format!(
        "(() => {{ const it = document.querySelector({}); it.value = {}; it.dispatchEvent(new Event({})); }})()",
        json!(selector), json!(value), json!(event)
    ));
}

/// Searches in one way, and waits for so many features.
fn search(browser: &mut Browser, mode: &str, query: &str, n: usize) -> Value {
    set(browser, "fieldset select", mode, "change");
    set(browser, "#search", query, "input");
    let said = if n == 0 { "No feature is so.".to_owned() } else { format!(" of {n} features") };
    browser
        .until(&format!("document.getElementById('count').textContent.includes({})", json!(said)));
    browser.value(ROWS)
}

fn go(browser: &mut Browser, address: &str, heading: &str) {
    browser.value(&format!("location.hash = {}", json!(address)));
    browser
        .until(&format!("document.getElementById('heading')?.textContent === {}", json!(heading)));
}

/// The features that an expression holds of, by number.
fn features(holds: impl Fn(u32) -> bool) -> Vec<u32> {
    (0..N_FEATURES).filter(|feature| holds(*feature)).collect()
}

#[test]
fn the_list_is_searched_sorted_and_filtered() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = write(folder.path());
    browser.open(&page);
    browser.until("document.querySelectorAll('#features tbody tr').length === 100");
    let alive = features(|feature| !order(feature).is_empty());
    let count = browser.text("document.getElementById('count').textContent");
    assert_eq!(count, format!("1 to 100 of {} features", alive.len()));
    let by_density = |a: &u32, b: &u32| order(*b).len().cmp(&order(*a).len()).then(a.cmp(b));
    let mut sorted = alive.clone();
    sorted.sort_by(by_density);
    assert_eq!(browser.value(ROWS), json!(sorted[..100]));
    browser.value("document.getElementById('on').click()");
    assert_eq!(browser.value(ROWS), json!(sorted[100..200]));

    // Sorted by the largest activation, then the other way round.
    let click = "[...document.querySelectorAll('#features thead button')].find((b) => b.textContent.startsWith('max')).click()";
    browser.value(click);
    let max = |feature: &u32| order(*feature).first().map_or(0.0, |row| activation(*row, *feature));
    sorted = alive.clone();
    sorted.sort_by(|a, b| max(b).total_cmp(&max(a)).then(a.cmp(b)));
    assert_eq!(browser.value(ROWS), json!(sorted[..100]));
    browser.value(click);
    sorted.sort_by(|a, b| max(a).total_cmp(&max(b)).then(a.cmp(b)));
    assert_eq!(browser.value(ROWS), json!(sorted[..100]));
    assert_eq!(
        browser.value("document.querySelectorAll('#features [aria-sort=ascending]').length"),
        1
    );

    assert_eq!(search(&mut browser, "number", "7", 1), json!([7]));
    assert_eq!(search(&mut browser, "number", "9999", 0), json!([]));
    assert_eq!(search(&mut browser, "number", "5", 0), json!([]), "a dead one");
    let count = browser.text("document.getElementById('count').textContent");
    assert!(count.ends_with("(1 more are found, but not shown by these filters)"), "{count}");
    assert_eq!(search(&mut browser, "token", "no such token", 0), json!([]));
    // Peaks and the token of the largest logit.
    let king = |feature: u32| {
        let mut peaks: Vec<u32> = Vec::new();
        for row in order(feature).into_iter().take(20) {
            if !peaks.contains(&token(row)) {
                peaks.push(token(row));
            }
        }
        peaks.iter().take(4).any(|id| *id == 1) || feature % 15 == 1
    };
    let expected = features(|feature| king(feature) && alive.contains(&feature));
    let found = search(&mut browser, "token", "king", expected.len());
    let mut found: Vec<u32> = serde_json::from_value(found).unwrap();
    found.sort_unstable();
    assert_eq!(found, expected);
    // The word is cut where the second of its tokens has a gap before it.
    let has_word = |feature: u32| {
        order(feature).into_iter().take(20).any(|row| row != 101 && (98..=103).contains(&row))
    };
    let expected = features(has_word);
    assert!(!expected.is_empty() && expected.len() < alive.len());
    search(&mut browser, "word", "zEbr", expected.len());
    search(&mut browser, "word", "zebrass", 0);

    set(&mut browser, "#search", "", "input");
    let share = |feature: u32| order(feature).len() as f64 / f64::from(N_ROWS);
    let expected = features(|feature| share(feature) >= 0.1 && share(feature) > 0.0);
    set(&mut browser, "input.number", "10", "input");
    browser.until(&format!(
        "document.getElementById('count').textContent.endsWith(' of {} features')",
        expected.len()
    ));
    set(&mut browser, "input.number", "", "input");
    let dead = features(|feature| order(feature).is_empty());
    set(&mut browser, "fieldset:first-of-type label:last-of-type select", "dead", "change");
    browser.until(&format!(
        "document.getElementById('count').textContent.endsWith(' of {} features')",
        dead.len()
    ));
    let mut shown: Vec<u32> = serde_json::from_value(browser.value(ROWS)).unwrap();
    shown.sort_unstable();
    assert_eq!(shown, dead);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_feature_page_shows_its_contexts_and_nothing_breaks_out() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = write(folder.path());
    browser.open(&page);
    browser.until("document.querySelectorAll('#features tbody tr').length > 0");
    for feature in [7, 100, 259] {
        go(&mut browser, &format!("#feature={feature}"), &format!("Feature {feature}"));
        let order = order(feature);
        let titles = browser.value(
            "[...document.querySelectorAll('h3')].find((h) => h.textContent === 'Top contexts').parentElement \
             .querySelector('ol').querySelectorAll('li').length",
        );
        assert_eq!(titles, order.len().min(20));
        for (at, &row) in order.iter().take(20).enumerate() {
            let item = format!("document.querySelectorAll('ol.contexts')[0].children[{at}]");
            let place = browser.text(&format!("{item}.querySelector('.place').textContent"));
            let expected = format!(" · row {row}, document {}, position {}", row / 100, row % 100);
            let value: f32 = place.strip_suffix(&expected).unwrap().parse().unwrap();
            let shown = activation(row, feature);
            assert!((value - shown).abs() <= 5e-4 * shown, "{value} for {shown}");
            // The value of every token is in its title.
            let titles = browser.value(&format!("[...{item}.querySelectorAll('.words > [title*=token]')].filter((t) => t.className !== 'gap').map((t) => t.title)"));
            let titles: Vec<String> = serde_json::from_value(titles).unwrap();
            let rows = row.saturating_sub(3)..N_ROWS.min(row + 4);
            assert_eq!(titles.len(), rows.len());
            for (title, row) in titles.iter().zip(rows) {
                let start = format!("token {}: ", token(row));
                let value = title.rsplit(&start).next().unwrap().split(';').next().unwrap();
                let value: f32 = value.parse().unwrap();
                let expected = activation(row, feature);
                assert!((value - expected).abs() <= 5e-4 * expected, "{title}: {expected}");
            }
            let peak = browser.text(&format!("{item}.querySelector('mark').title"));
            assert!(peak.contains(&format!("token {}: ", token(row))), "{peak}");
        }
    }
    // Every text is shown as it is, hidden characters by their numbers.
    let shown = |id: u32| format!("token({id}).textContent");
    for (id, expected) in [
        (0, "␣the"),
        (3, "↵"),
        (4, TEXTS[4]),
        (5, TEXTS[5]),
        (6, "U+202Eabc"),
        (7, "U+0007U+200B"),
        (9, "␣␣"),
        (11, TEXTS[11]),
        (BROKEN, "␣\\xe2\\x80"),
        (BROKEN + 2, "#14"),
    ] {
        assert_eq!(browser.text(&shown(id)), expected.replace("src=x onerror", "src=x␣onerror"));
    }
    assert_eq!(browser.value("typeof hacked"), "undefined");
    assert_eq!(
        browser.value("document.querySelectorAll('script, img, b:not(.place b)').length"),
        1
    );
    assert_eq!(browser.text("document.getElementById('notes').textContent"), "<b>a note</b>");
    assert!(
        browser.requests().iter().all(|url| url.starts_with("file:")),
        "{:?}",
        browser.requests()
    );
    assert_eq!(browser.errors(), Vec::<String>::new());
    for (address, got) in [("260", "260"), ("-1", "-1"), ("%41", "A"), ("1,2", "1,2")] {
        browser.value(&format!("location.hash = '#feature={address}'"));
        let expected = format!("Expected a feature from 0 to 259, got {}.", json!(got));
        browser.until(&format!(
            "document.querySelector('[role=alert]')?.textContent === {}",
            json!(expected)
        ));
    }
}

#[test]
fn features_are_compared_pinned_and_fit_the_screen() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = write(folder.path());
    browser.screen(360, "light");
    browser.open(&page);
    browser.until("document.querySelectorAll('#features tbody tr').length > 0");
    let ground = "getComputedStyle(document.body).backgroundColor";
    let fits = "document.documentElement.scrollWidth <= 360";
    let light = browser.text(ground);
    assert_eq!(browser.value(fits), true);
    go(&mut browser, "#compare=7,8", "Features 7 and 8");
    assert_eq!(
        browser.value("[...document.querySelectorAll('article')].map((a) => a.id)"),
        json!(["feature-7", "feature-8"])
    );
    let between = browser.text("document.querySelector('main > p').textContent");
    assert_eq!(between, "Between the two: cosine 1.");
    assert_eq!(browser.value(fits), true);
    browser.value(
        "document.querySelectorAll('article button[aria-pressed]').forEach((b) => b.click())",
    );
    assert_eq!(browser.text("document.getElementById('to-pinned').textContent"), "Pinned (2)");
    go(&mut browser, "#pinned", "Pinned features");
    set(&mut browser, "#pinned input", "a \"note\" <b>", "input");
    assert_eq!(browser.value(fits), true);
    let exported: Value = serde_json::from_str(&browser.text("exported()")).unwrap();
    assert_eq!(exported["features"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&exported["features"][0]["feature"], &exported["features"][0]["note"]),
        (&json!(7), &json!("a \"note\" <b>"))
    );
    assert_eq!(exported["features"][0]["n_active"], order(7).len());

    go(&mut browser, "#feature=7", "Feature 7");
    assert_eq!(
        browser.value("document.activeElement.id"),
        "heading",
        "a reader is told the new view"
    );
    assert_eq!(browser.value(fits), true);
    // Pins outlive the page; every control and picture has a name.
    browser.screen(1100, "dark");
    browser.open(&page);
    browser.until("document.getElementById('to-pinned').textContent === 'Pinned (2)'");
    assert_ne!(browser.text(ground), light);
    for address in ["#list", "#feature=7", "#pinned"] {
        browser.value(&format!("location.hash = {}", json!(address)));
        browser.until("document.getElementById('heading') !== null");
        let unnamed = browser.value(
            "[...document.querySelectorAll('input, select, button, a, svg')].filter((it) => !(it.ariaLabel || it.textContent.trim() \
             || it.getAttribute('aria-label') || it.closest('label')?.textContent.trim())).map((it) => it.outerHTML)",
        );
        assert_eq!(unnamed, json!([]), "{address}");
        assert_eq!(browser.barriers(), Vec::<String>::new(), "{address}");
        browser.picture(&format!("features-{}", address.trim_start_matches('#').replace('=', "-")));
    }
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn the_same_number_is_compared_in_two_saes() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = write(&folder.path().join("one"));
    write(&folder.path().join("two"));
    browser.open(&page);
    browser.until("document.querySelectorAll('#features tbody tr').length > 0");
    // An address alone loads nothing from elsewhere.
    browser.value("location.hash = '#beside=7'");
    browser.until(
        "document.querySelector('[role=alert]')?.textContent.startsWith('Expected the folder')",
    );
    let beside = |browser: &mut Browser, number: u32, other: &str| {
        go(browser, &format!("#feature={number}"), &format!("Feature {number}"));
        browser.value(&format!(
            "(() => {{ const it = document.getElementById('beside'); it.value = {}; it.form.requestSubmit(); }})()",
            json!(other)
        ));
    };
    beside(&mut browser, 7, "../two/");
    browser.until("document.getElementById('heading')?.textContent === 'Feature 7 in two SAEs'");
    let links = browser.value("[...document.querySelectorAll('article h3:first-child a')].map((a) => a.getAttribute('href'))");
    assert_eq!(links, json!(["#feature=7", "../two/features.html#feature=7"]));
    let both = browser.value("[...document.querySelectorAll('article')].map((one) => one.querySelector('ol').textContent)");
    assert_eq!(both[0], both[1]);
    assert!(both[0].as_str().unwrap().len() > 100);
    let errors = browser.errors();
    assert_eq!(errors, Vec::<String>::new());
    beside(&mut browser, 8, "../three");
    browser.until(
        "document.querySelector('[role=alert]')?.textContent.startsWith('../three/features-data/')",
    );
}
