//! How threads of libtorch wait, as OpenMP says itself.

use std::process::Command;

use crate::{softsae_program, text};

/// What OpenMP says of how long its threads spin, each time that it is loaded.
fn spins(policy: Option<&str>) -> Vec<String> {
    let mut command = Command::new(softsae_program());
    command.args(["inspect", "nothing-here"]).env("OMP_DISPLAY_ENV", "verbose");
    command.env_remove("OMP_WAIT_POLICY").env_remove("GOMP_SPINCOUNT");
    if let Some(policy) = policy {
        command.env("OMP_WAIT_POLICY", policy);
    }
    let output = command.output().expect("softsae starts");
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("nothing-here"), "arguments are kept: {told}");
    let lines = told.lines().filter_map(|line| line.trim().strip_prefix("GOMP_SPINCOUNT = "));
    lines.map(str::to_owned).collect()
}

#[test]
fn threads_sleep_unless_the_environment_says_otherwise() {
    // Once as it is started, and once anew with threads that do not spin.
    let told = spins(None);
    if spins(Some("passive")).is_empty() {
        eprintln!(
            "skipped: this libtorch's OpenMP is not GNU's, and does not say how threads wait"
        );
        return;
    }
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0] != "'0'" && told[1] == "'0'", "{told:?}");
    let told = spins(Some("active"));
    assert!(told.len() == 1 && told[0] != "'0'", "{told:?}");
    assert_eq!(spins(Some("passive")), ["'0'"]);
}
