//! What SLURM says of its tasks, asked with pace.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

/// Times between two questions to the scheduler: the first, and the longest while it answers.
const POLL: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];

/// The longest time between two questions while it does not.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Tasks for each of which the scheduler is left alone some longer.
const TASKS_A_SECOND: f64 = 100.0;

/// Where a task stands: a state of SLURM (`PENDING`, `OUT_OF_MEMORY`), and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    pub(super) state: String,
    pub(super) reason: String,
}

/// States that a task does not leave again by itself.
const OVER: [&str; 10] = [
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
];

impl Standing {
    /// Whether the task is queued or running; a state that is not known counts as that.
    pub(super) fn is_live(&self) -> bool {
        // sacct tells who: `CANCELLED by 1000`.
        let state = self.state.split([' ', '+']).next().unwrap_or_default();
        !OVER.contains(&state)
    }

    pub(super) fn is_pending(&self) -> bool {
        self.is_live() && !["RUNNING", "COMPLETING"].contains(&self.state.as_str())
    }

    /// In words.
    pub(super) fn words(&self) -> String {
        let state = self.state.to_lowercase().replace('_', " ");
        match self.reason.as_str() {
            "" | "None" | "N/A" => state,
            reason => format!("{state} ({reason})"),
        }
    }
}

/// A task: its array job and its index in it.
pub(super) type TaskId = (String, usize);

/// Where the tasks of array jobs stand; those that SLURM knows no more are absent.
pub(super) fn standings(arrays: &[String]) -> Result<BTreeMap<TaskId, Standing>> {
    if arrays.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut command = Command::new("squeue");
    command.args(["--noheader", "--array", "--states=all", "--format=%F|%K|%T|%r"]);
    Ok(read_queue(&answer(command.arg(format!("--jobs={}", arrays.join(","))), "squeue")?))
}

/// The lines `ARRAY|INDEX|STATE|REASON` of squeue.
fn read_queue(text: &str) -> BTreeMap<TaskId, Standing> {
    let task = |line: &str| {
        let mut fields = line.splitn(4, '|').map(str::trim);
        let (array, index) = (fields.next()?.to_owned(), fields.next()?.parse().ok()?);
        let (state, reason) = (fields.next()?.into(), fields.next()?.into());
        Some(((array, index), Standing { state, reason }))
    };
    text.lines().filter_map(task).collect()
}

/// The array job of this name, if SLURM knows one: in the queue, or where it keeps accounts.
pub(super) fn named(name: &str) -> Result<Option<String>> {
    let mut command = Command::new("squeue");
    command.args(["--noheader", "--states=all", "--format=%F", &format!("--name={name}")]);
    let said = answer(&mut command, "squeue")?;
    Ok(said.lines().map(str::trim).find(|id| !id.is_empty()).map(str::to_owned))
}

/// How a task ended that the queue does not tell of any more; none where there are no accounts.
pub(super) fn account((array, index): &TaskId) -> Option<Standing> {
    let mut command = Command::new("sacct");
    command.args(["--noheader", "--parsable2", "--allocations", "--format=State,ExitCode"]);
    let output = command.arg(format!("--jobs={array}_{index}")).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    read_account(&said).filter(|_| output.status.success())
}

/// The lines `STATE|CODE:SIGNAL` of sacct: the last, where a task was requeued.
fn read_account(text: &str) -> Option<Standing> {
    let (state, code) = text.lines().last()?.split_once('|')?;
    let reason = match code.trim().split_once(':') {
        Some(("0", "0")) => String::new(),
        Some(("0", signal)) => format!("signal {signal}"),
        Some((code, _)) => format!("exit code {code}"),
        None => code.into(),
    };
    Some(Standing { state: state.into(), reason })
}

/// The most tasks of an array job.
pub(super) fn max_array_size() -> Result<usize> {
    let said = answer(Command::new("scontrol").args(["show", "config"]), "scontrol")?;
    let line = said.lines().find_map(|line| line.strip_prefix("MaxArraySize"));
    let value = line.and_then(|line| line.split_once('=')).map(|(_, value)| value.trim());
    match value.and_then(|value| value.parse().ok()) {
        Some(n) if n > 0 => Ok(n),
        _ => bail!("scontrol show config: expected MaxArraySize, got {value:?}"),
    }
}

/// Cancels array jobs; those that have ended are no matter.
pub(super) fn cancel(arrays: &[String]) -> Result<()> {
    answer(Command::new("scancel").args(arrays), "scancel").map(drop)
}

/// What a command of SLURM prints.
fn answer(command: &mut Command, what: &str) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start `{what}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return String::from_utf8(output.stdout).with_context(|| format!("{what}: no UTF-8"));
    }
    // A job that ended some minutes ago is not known any more.
    if said.contains("Invalid job id") {
        return Ok(String::new());
    }
    bail!("{what} failed ({}): {}", output.status, said.trim())
}

/// How often the scheduler is asked: less and less often, and again and again while it does not
/// answer, since the tasks run on.
#[derive(Debug)]
pub(super) struct Pace {
    /// Time to the next question.
    pub(super) wait: Duration,
    fails: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { wait: POLL[0], fails: false }
    }
}

impl Pace {
    /// Takes an answer on so many tasks; gives a line to print where the scheduler has begun to
    /// fail or to answer.
    ///
    /// `is_news` says that the answer, or what is missing in it, matters and the next one with it.
    pub(super) fn answered<T>(
        &mut self,
        answer: &Result<T>,
        n_tasks: usize,
        is_news: bool,
    ) -> Option<String> {
        let fails = answer.is_err();
        let changed = fails != self.fails;
        let least = POLL[0] + Duration::from_secs_f64(n_tasks as f64 / TASKS_A_SECOND);
        let longest = if fails { LONGEST_WAIT } else { POLL[1] };
        let grown = if changed || (is_news && !fails) { least } else { self.wait * 3 / 2 };
        self.wait = grown.max(least).min(longest);
        self.fails = fails;
        match answer {
            _ if !changed => None,
            Err(error) => {
                Some(format!("{error:#}; the tasks are not touched by that, and it is asked again"))
            }
            Ok(_) => Some("SLURM answers again".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_scheduler_that_fails_is_asked_again_until_it_answers() {
        let mut pace = Pace::default();
        let fails = || Err::<(), _>(anyhow!("Unable to contact slurm controller"));
        assert!(pace.answered(&Ok(()), 1, false).is_none());
        let line = pace.answered(&fails(), 1, false).unwrap();
        assert!(line.contains("Unable to contact"), "{line}");
        for _ in 0..50 {
            assert!(pace.answered(&fails(), 1, false).is_none(), "it is said once");
        }
        assert_eq!(pace.wait, LONGEST_WAIT);
        assert_eq!(pace.answered(&Ok(()), 1, false).unwrap(), "SLURM answers again");
        assert!(pace.wait < Duration::from_secs(3));
    }

    #[test]
    fn many_tasks_are_asked_for_less_often() {
        let wait = |n_tasks: usize, is_news: bool, times: usize| {
            let mut pace = Pace::default();
            (0..times).for_each(|_| drop(pace.answered(&Ok(()), n_tasks, is_news)));
            pace.wait
        };
        assert_eq!(wait(0, true, 9), POLL[0]);
        assert_eq!(wait(1200, true, 9), Duration::from_secs(14));
        assert_eq!(wait(40_000, true, 9), POLL[1]);
        assert_eq!(wait(0, false, 2), POLL[0] * 9 / 4);
        assert_eq!(wait(0, false, 99), POLL[1]);
    }

    #[test]
    fn the_queue_is_read_line_by_line() {
        let text = "12|0|RUNNING|None\n12|17|PENDING|Resources\n13|N/A|PENDING|\n\
                    14|3|PENDING|ReqNodeNotAvail, UnavailableNodes:a|b\nnonsense\n";
        let tasks = read_queue(text);
        let of = |array: &str, index| tasks.get(&(array.to_owned(), index)).map(Standing::words);
        assert_eq!(of("12", 0).unwrap(), "running");
        assert_eq!(of("12", 17).unwrap(), "pending (Resources)");
        let nodes = "pending (ReqNodeNotAvail, UnavailableNodes:a|b)";
        assert_eq!(of("14", 3).unwrap(), nodes);
        assert_eq!(tasks.len(), 3);
    }

    /// What sacct 22.05 printed of tasks that had these ends.
    #[test]
    fn ends_are_read_from_accounts() {
        for (text, words, is_live) in [
            ("COMPLETED|0:0\n", "completed", false),
            ("FAILED|3:0\n", "failed (exit code 3)", false),
            ("FAILED|0:9\n", "failed (signal 9)", false),
            ("CANCELLED by 0|0:0\n", "cancelled by 0", false),
            ("CANCELLED|0:0\n", "cancelled", false),
            ("PREEMPTED|0:0\n", "preempted", false),
            ("NODE_FAIL|0:0\n", "node fail", false),
            ("TIMEOUT|0:0\n", "timeout", false),
            ("PENDING|0:0\n", "pending", true),
            ("RUNNING|0:0\n", "running", true),
            ("PREEMPTED|0:0\nPENDING|0:0\n", "pending", true),
        ] {
            let standing = read_account(text).unwrap();
            assert_eq!((standing.words().as_str(), standing.is_live()), (words, is_live), "{text}");
        }
        assert_eq!(read_account(""), None);
    }

    #[test]
    fn what_is_over_is_told_from_what_may_go_on() {
        let standing = |state: &str| Standing { state: state.into(), reason: "None".into() };
        for state in OVER {
            assert!(!standing(state).is_live(), "{state}");
        }
        assert!(!standing("CANCELLED by 1000").is_live());
        for state in ["PENDING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "A_STATE_OF_TOMORROW"] {
            assert!(standing(state).is_live() && standing(state).is_pending(), "{state}");
        }
        for state in ["RUNNING", "COMPLETING"] {
            assert!(standing(state).is_live() && !standing(state).is_pending(), "{state}");
        }
        assert_eq!(standing("OUT_OF_MEMORY").words(), "out of memory");
    }
}
