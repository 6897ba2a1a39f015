//! The page: a frame with styles, scripts and the report's data inside.

use std::path::{Path, PathBuf};

use crate::{Report, Result};

const FRAME: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = concat!(
    include_str!("page/svg.js"),
    include_str!("page/text.js"),
    include_str!("page/data.js"),
    include_str!("page/chart.js"),
    include_str!("page/state.js"),
    include_str!("page/runs.js"),
    include_str!("page/plots.js"),
    include_str!("page/profile.js"),
    include_str!("page/scores.js"),
    include_str!("page/page.js"),
);

/// Reads a sweep folder and writes its `report.html`; gives the path of the page.
///
/// # Errors
/// An error that names the file which is missing, broken or cannot be written.
pub fn write_report(folder: &Path) -> Result<PathBuf> {
    Report::read(folder)?.write(folder)
}

impl Report {
    /// Writes the page as `report.html` of a folder; gives its path.
    ///
    /// # Errors
    /// An error that names the file which cannot be written.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join("report.html");
        sae_config::write_text(&path, &render(self))?;
        Ok(path)
    }
}

/// The page of a report: one HTML document that loads nothing.
#[must_use]
pub fn render(report: &Report) -> String {
    // A report holds strings, numbers and maps by string: always valid JSON.
    let data = serde_json::to_string(report).expect("a report is valid JSON");
    // Nothing in the data can end the script element that holds it.
    let data = data.replace('<', "\\u003c");
    let title = escape(&report.results.name);
    let parts = [("{{title}}", title.as_str()), ("{{style}}", STYLE), ("{{script}}", SCRIPT)];
    let mut page = FRAME.to_owned();
    for (mark, text) in parts {
        page = page.replace(mark, text);
    }
    // Last, so that nothing in the data is taken for a mark.
    page.replace("{{data}}", &data)
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use sae_config::SweepResults;

    use super::*;

    fn report(name: &str) -> Report {
        Report::new(SweepResults { name: name.into(), ..SweepResults::default() })
    }

    #[test]
    fn the_page_is_whole_and_loads_nothing() {
        let page = render(&report("quickstart"));
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
        for mark in ["{{", "http://", "https://", "src=", "@import"] {
            let is_namespace = |rest: &str| rest.starts_with("http://www.w3.org/2000/svg");
            let found = page.match_indices(mark).any(|(at, _)| !is_namespace(&page[at..]));
            assert!(!found, "the page holds {mark}");
        }
    }

    #[test]
    fn data_cannot_leave_its_place() {
        let mut hostile = report("</title><script>alert(1)</script>");
        hostile.sweep = Some("</script><script>alert(2)</script> {{style}}".into());
        let page = render(&hostile);
        assert_eq!(
            page.matches("<script").count(),
            render(&report("x")).matches("<script").count()
        );
        let start = page.find(r#"type="application/json">"#).unwrap();
        let data = &page[start + r#"type="application/json">"#.len()..];
        let data: serde_json::Value =
            serde_json::from_str(&data[..data.find("</script>").unwrap()]).unwrap();
        assert_eq!(data["sweep"], hostile.sweep.unwrap());
        assert_eq!(data["results"]["name"], hostile.results.name);
    }

    #[test]
    fn a_folder_without_results_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_report(folder.path()).unwrap_err().to_string();
        assert!(error.contains("results.json"), "{error}");
        std::fs::write(folder.path().join("results.json"), r#"{"name": "x", "runs": []}"#).unwrap();
        let page = write_report(folder.path()).unwrap();
        assert!(std::fs::read_to_string(page).unwrap().contains("<title>x"));
    }
}
