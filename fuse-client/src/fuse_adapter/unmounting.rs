//! An unmount must not wait for servers that are gone: `umount` looks at the mount point first, and
//! goes on when that look fails. So a program that unmounts gets its ETIMEDOUT early; everybody else
//! waits as long as every call does. Nobody gets an old answer (P1).

use std::future::Future;
use std::time::Duration;

use cairn_common::client::ClientError;

/// How long a program that unmounts waits for an answer about the mount point.
const PATIENCE: Duration = Duration::from_millis(1500);
/// What such programs are called.
const PROGRAMS: [&str; 4] = ["umount", "fusermount3", "fusermount", "umount.fuse"];

/// Waits for `work`, but not for long if the process `pid` is there to unmount.
pub(super) async fn bounded_for_unmount<T>(
    pid: u32,
    what: &'static str,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::pin!(work);
    match tokio::time::timeout(PATIENCE, &mut work).await {
        Ok(result) => result,
        Err(_) if unmounts(pid) => {
            let tried = "an unmount does not wait longer".to_owned();
            Err(ClientError::TimedOut { what, waited: PATIENCE, tried })
        }
        Err(_) => work.await,
    }
}

fn unmounts(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| PROGRAMS.contains(&name.trim_end()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn only_a_program_that_unmounts_is_answered_early() {
        let late = || async {
            tokio::time::sleep(PATIENCE + Duration::from_millis(300)).await;
            Ok(7)
        };
        assert_eq!(bounded_for_unmount(std::process::id(), "x", late()).await, Ok(7));
        // The kernel names a process after its file.
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("umount");
        std::fs::copy("/bin/sleep", &program).unwrap();
        let mut umount = Command::new(&program).arg("60").spawn().unwrap();
        let answer = bounded_for_unmount(umount.id(), "x", late()).await;
        umount.kill().unwrap();
        umount.wait().unwrap();
        assert!(matches!(answer, Err(ClientError::TimedOut { .. })), "{answer:?}");
    }
}
