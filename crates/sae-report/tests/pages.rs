//! Feature pages as a browser shows them from a disk.

mod list;

use serde_json::{Value, json};

use self::list::set;
use crate::browser::Browser;
use crate::features::{BROKEN, N_ROWS, TEXTS, activation, order, token, write};

fn go(browser: &mut Browser, address: &str, heading: &str) {
    browser.value(&format!("location.hash = {}", json!(address)));
    browser
        .until(&format!("document.getElementById('heading')?.textContent === {}", json!(heading)));
}

/// Checks the contexts of the page that is shown: their places, and the value of every token.
fn check_contexts(browser: &mut Browser, feature: u32) {
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

#[test]
fn a_feature_page_shows_its_contexts_and_nothing_breaks_out() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = write(folder.path());
    browser.open(&page);
    browser.until("document.querySelectorAll('#features tbody tr').length > 0");
    for feature in [7, 100, 259] {
        go(&mut browser, &format!("#feature={feature}"), &format!("Feature {feature}"));
        check_contexts(&mut browser, feature);
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
