//! How libtorch's threads wait for work.

/// Starts the program anew with OpenMP's threads asleep while they have nothing to do; where the
/// environment says how they wait, or the start fails, it goes on as it is.
///
/// By default they spin after each operation of libtorch, and hold the processors that the threads of
/// our own kernels need. OpenMP reads its settings when it is loaded, before `main`.
#[cfg(unix)]
pub(crate) fn wait_asleep() {
    use std::os::unix::process::CommandExt as _;

    let is_said = |key: &str| std::env::var_os(key).is_some();
    if is_said("OMP_WAIT_POLICY") || is_said("GOMP_SPINCOUNT") {
        return;
    }
    let mut args = std::env::args_os();
    let (Ok(program), Some(name)) = (std::env::current_exe(), args.next()) else { return };
    // Where a loader was named on the command line it is the program that the system knows of.
    let file = program.file_name().and_then(|file| file.to_str()).unwrap_or_default();
    if file.starts_with("ld-") || file.starts_with("ld.") {
        return;
    }
    // It comes back only where it has failed.
    let _ = std::process::Command::new(program)
        .arg0(name)
        .args(args)
        .env("OMP_WAIT_POLICY", "passive")
        .exec();
}

#[cfg(not(unix))]
pub(crate) fn wait_asleep() {}
