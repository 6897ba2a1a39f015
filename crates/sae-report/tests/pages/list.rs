//! The list of features: searched, sorted and filtered.

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::features::{N_FEATURES, N_ROWS, activation, order, token, write};

/// The numbers of the features in the table.
const ROWS: &str =
    "[...document.querySelectorAll('#features tbody th')].map((th) => Number(th.textContent))";

/// Sets a control and tells the page.
pub(super) fn set(browser: &mut Browser, selector: &str, value: &str, event: &str) {
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

/// The features that an expression holds of, by number.
fn features(holds: impl Fn(u32) -> bool) -> Vec<u32> {
    (0..N_FEATURES).filter(|feature| holds(*feature)).collect()
}

/// Checks what is found by number, token and word.
fn check_search(browser: &mut Browser, alive: &[u32]) {
    assert_eq!(search(browser, "number", "7", 1), json!([7]));
    assert_eq!(search(browser, "number", "9999", 0), json!([]));
    assert_eq!(search(browser, "number", "5", 0), json!([]), "a dead one");
    let count = browser.text("document.getElementById('count').textContent");
    assert!(count.ends_with("(1 more are found, but not shown by these filters)"), "{count}");
    assert_eq!(search(browser, "token", "no such token", 0), json!([]));
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
    let found = search(browser, "token", "king", expected.len());
    let mut found: Vec<u32> = serde_json::from_value(found).unwrap();
    found.sort_unstable();
    assert_eq!(found, expected);
    // The word is cut where the second of its tokens has a gap before it.
    let has_word = |feature: u32| {
        order(feature).into_iter().take(20).any(|row| row != 101 && (98..=103).contains(&row))
    };
    let expected = features(has_word);
    assert!(!expected.is_empty() && expected.len() < alive.len());
    search(browser, "word", "zEbr", expected.len());
    search(browser, "word", "zebrass", 0);
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

    check_search(&mut browser, &alive);
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
fn enter_opens_a_hit_and_the_box_of_numbers_is_written_anew() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = write(folder.path());
    browser.open(&page);
    browser.until("document.querySelectorAll('#features tbody tr').length === 100");
    let enter = "document.getElementById('search').dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', cancelable: true}))";
    set(&mut browser, "#search", "7", "input");
    browser.value(enter);
    browser.until("location.hash === '#feature=7'");
    browser.until("document.getElementById('heading')?.textContent === 'Feature 7'");
    browser.value("location.hash = '#list'");
    browser.until("document.getElementById('search') !== null");
    set(&mut browser, "fieldset select", "token", "change");
    set(&mut browser, "#search", "king", "input");
    browser.value(enter);
    browser.until("location.hash !== '#list'");
    let opened = browser.text("location.hash");
    browser.until("document.getElementById('heading')?.textContent.startsWith('Feature ')");
    browser.value("location.hash = '#list'");
    browser.until("document.getElementById('search') !== null");
    let first: Vec<u32> = serde_json::from_value(browser.value(ROWS)).unwrap();
    assert_eq!(opened, format!("#feature={}", first[0]));

    let number = "document.getElementById('go-number')";
    browser.value(&format!("(() => {{ {number}.value = '12'; {number}.focus(); }})()"));
    let chosen = format!("[{number}.selectionStart, {number}.selectionEnd]");
    assert_eq!(browser.value(&chosen), json!([0, 2]));
    browser.value(&format!("{number}.form.requestSubmit()"));
    browser.until("location.hash === '#feature=12'");
    assert_eq!(browser.value(&chosen), json!([0, 2]));
    let title = browser.text("document.getElementById('name').textContent");
    assert_eq!(title, "<title><script>hacked=4 · soft");
    assert_eq!(browser.value("document.getElementById('to-report')"), Value::Null);
    assert_eq!(browser.errors(), Vec::<String>::new());
}
