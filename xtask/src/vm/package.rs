//! Debian packages that the guests are made of, unpacked under target/vm. Nothing is installed on this machine, and
//! root is not needed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use object::{Object, ObjectSection};

use crate::{terminal, workspace};

/// Downloads `packages` and unpacks them into `folder`, which appears when it is whole; or finds it there.
pub(super) fn unpack(packages: &[String], folder: &Path) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let fresh = folder.with_extension("new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| fresh.display().to_string())?;
    }
    let debs = fresh.join("debs");
    fs::create_dir_all(&debs).with_context(|| debs.display().to_string())?;
    for package in packages {
        terminal::begin("download", &package);
        let mut get = Command::new("apt-get");
        // The sandbox user of apt may not write below target/.
        get.current_dir(&debs)
            .args(["-q", "-o", "APT::Sandbox::User=root", "download", package]);
        workspace::run(&mut get)?;
    }
    for deb in fs::read_dir(&debs)? {
        workspace::run(Command::new("dpkg-deb").arg("-x").arg(deb?.path()).arg(&fresh))?;
    }
    fs::remove_dir_all(&debs)?;
    fs::rename(&fresh, folder).with_context(|| folder.display().to_string())
}

/// A busybox that runs where there are no libraries: this machine's, or the one of `busybox-static`, which cannot be
/// installed beside the usual one.
pub(super) fn busybox() -> Result<PathBuf> {
    if let Some(own) = workspace::find("busybox").filter(|path| is_static(path)) {
        return Ok(own);
    }
    let folder = workspace::target().join("vm/busybox");
    unpack(&["busybox-static".to_owned()], &folder).context("the guests need busybox-static")?;
    let places = ["bin/busybox", "usr/bin/busybox"].map(|path| folder.join(path));
    places
        .into_iter()
        .find(|path| path.exists())
        .context("busybox-static brings no busybox")
}

/// Whether the program asks for no dynamic loader.
fn is_static(path: &Path) -> bool {
    let Ok(bytes) = fs::read(path) else { return false };
    object::File::parse(&*bytes)
        .is_ok_and(|file| file.sections().all(|section| section.name() != Ok(".interp")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_linked_dynamically() {
        let own = std::env::current_exe().unwrap();
        assert!(!is_static(&own));
        assert!(!is_static(Path::new("/proc/version")), "not a program at all");
    }
}
