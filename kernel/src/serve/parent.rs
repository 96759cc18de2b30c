//! The process that started the kernel. When it dies without a word, nobody will ever shut the kernel down.

use std::time::Duration;

/// Jupyter sets it to its own process id.
#[cfg(unix)]
const PARENT: &str = "JPY_PARENT_PID";
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Ends when the Jupyter that started this process is gone. Never, where something else started it.
pub async fn gone() {
    if !is_there() {
        return std::future::pending().await;
    }
    while is_there() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// An orphan gets another parent.
#[cfg(unix)]
fn is_there() -> bool {
    let jupyter = std::env::var(PARENT).ok().and_then(|pid| pid.parse::<u32>().ok()).filter(|pid| *pid > 1);
    jupyter.is_none_or(|jupyter| std::os::unix::process::parent_id() == jupyter)
}

#[cfg(not(unix))]
fn is_there() -> bool {
    true
}
