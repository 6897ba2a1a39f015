//! What a sweep asks of a SLURM cluster for each of its runs.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Options of `sbatch`, as its own names have them (`[slurm]` of a sweep file).
///
/// What is absent is left to the cluster's defaults and to `SBATCH_…` variables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlurmConfig {
    /// `--partition`.
    pub partition: Option<String>,
    /// `--account`.
    pub account: Option<String>,
    /// `--qos`.
    pub qos: Option<String>,
    /// `--time`: minutes, `hours:minutes:seconds`, `days-hours`.
    pub time: Option<String>,
    /// `--mem`: megabytes, or with a unit (`16G`).
    pub mem: Option<String>,
    /// `--cpus-per-task`; a run computes with as many threads.
    pub cpus: Option<u32>,
    /// `--gres=gpu:N`.
    pub gpus: Option<u32>,
    /// More options, one a line, as they follow `#SBATCH`.
    #[serde(default)]
    pub extra: Vec<String>,
}

/// Options that say which tasks there are and where they write: a sweep sets them itself.
const RESERVED: [&str; 12] = [
    "--array",
    "-a",
    "--job-name",
    "-J",
    "--output",
    "-o",
    "--error",
    "-e",
    "--open-mode",
    "--no-requeue",
    "--parsable",
    "--wrap",
];

impl SlurmConfig {
    /// The options, in the order of the fields.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        let text = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("--{name}={value}"))
        };
        let fields = [
            text("partition", &self.partition),
            text("account", &self.account),
            text("qos", &self.qos),
            text("time", &self.time),
            text("mem", &self.mem),
            self.cpus.map(|n| format!("--cpus-per-task={n}")),
            self.gpus.map(|n| format!("--gres=gpu:{n}")),
        ];
        fields.into_iter().flatten().chain(self.extra.iter().cloned()).collect()
    }

    /// Checks what would not reach `sbatch` as it is written.
    pub(super) fn check(&self) -> Result<()> {
        let texts = [
            ("slurm.partition", &self.partition),
            ("slurm.account", &self.account),
            ("slurm.qos", &self.qos),
            ("slurm.time", &self.time),
            ("slurm.mem", &self.mem),
        ];
        for (key, value) in texts {
            let Some(value) = value else { continue };
            if value.is_empty() || value.contains(|c: char| c.is_whitespace() || "#'\"".contains(c))
            {
                return Err(Error::value(key, "a word", format!("{value:?}")));
            }
        }
        for (key, value) in [("slurm.cpus", self.cpus), ("slurm.gpus", self.gpus)] {
            if value == Some(0) {
                return Err(Error::value(key, "at least 1", 0));
            }
        }
        self.extra.iter().try_for_each(|line| check_extra(line))
    }
}

fn check_extra(line: &str) -> Result<()> {
    let key = "slurm.extra";
    if !line.starts_with('-') || line.contains(['\n', '\r']) {
        let expected = "options of sbatch, one each, such as `--constraint=a100`";
        return Err(Error::value(key, expected, format!("{line:?}")));
    }
    let name = line.split(['=', ' ']).next().unwrap_or_default();
    let is_reserved = |reserved: &&&str| match reserved.starts_with("--") {
        true => name == **reserved,
        // The value of a short option may follow without a space.
        false => !name.starts_with("--") && name.starts_with(**reserved),
    };
    if let Some(reserved) = RESERVED.iter().find(is_reserved) {
        return Err(Error::value(key, format!("no `{reserved}`, which a sweep sets"), line));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SlurmConfig, String> {
        let config: SlurmConfig = toml::from_str(text).map_err(|e| e.to_string())?;
        config.check().map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn options_are_those_of_sbatch() {
        let text = "partition = 'gpu'\naccount = 'lab'\nqos = 'low'\ntime = '1-12:00:00'\n\
                    mem = '16G'\ncpus = 4\ngpus = 1\nextra = ['--constraint=a100', '-x node7']";
        let expected = [
            "--partition=gpu",
            "--account=lab",
            "--qos=low",
            "--time=1-12:00:00",
            "--mem=16G",
            "--cpus-per-task=4",
            "--gres=gpu:1",
            "--constraint=a100",
            "-x node7",
        ];
        assert_eq!(read(text).unwrap().options(), expected);
        assert!(read("").unwrap().options().is_empty());
    }

    #[test]
    fn what_a_sweep_sets_and_what_is_unknown_is_refused() {
        for (text, words) in [
            ("partitions = 'gpu'", "unknown field `partitions`"),
            ("cpus = 0", "`slurm.cpus`: expected at least 1"),
            ("gpus = 0", "`slurm.gpus`: expected at least 1"),
            ("mem = '16 G'", "`slurm.mem`: expected a word, got \"16 G\""),
            ("time = ''", "`slurm.time`: expected a word"),
            ("extra = ['constraint=a100']", "`slurm.extra`: expected options"),
            ("extra = [\"-x a\\n--wrap=b\"]", "`slurm.extra`: expected options"),
        ] {
            let message = read(text).unwrap_err();
            assert!(message.contains(words), "{text}: {message}");
        }
        for option in RESERVED {
            for line in [option.to_owned(), format!("{option}=1"), format!("{option} 1")] {
                let message = read(&format!("extra = ['{line}']")).unwrap_err();
                assert!(message.contains(&format!("no `{option}`")), "{line}: {message}");
            }
        }
        assert!(read("extra = ['-J7']").is_err());
        assert!(read("extra = ['--exclusive', '--error-is-another-word']").is_ok());
    }
}
