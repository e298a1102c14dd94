//! Stock Debian kernels: a version becomes a package, the package an image and modules to boot.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use anyhow::{Context, Result, ensure};

use super::package;
use crate::{setup::update_package_lists, terminal, workspace};

/// A kernel as the user names it: a version such as `6.12`, or a Debian package.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KernelName(String);

impl FromStr for KernelName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name.starts_with(|first: char| first.is_ascii_digit()) || name.starts_with("linux-image-") {
            Ok(Self(name.to_owned()))
        } else {
            Err(
                "not a version like 6.12 nor a linux-image package; a test's name goes before --vm"
                    .to_owned(),
            )
        }
    }
}

impl fmt::Display for KernelName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0.trim_start_matches("linux-image-"))
    }
}

impl KernelName {
    /// Packages that may bring this kernel, best first. Meta packages: exact versions vanish from the archive.
    fn packages(&self) -> Vec<String> {
        if self.0.starts_with("linux-image-") {
            return vec![self.0.clone()];
        }
        vec![
            format!("linux-image-{}-cloud-amd64", self.0),
            "linux-image-cloud-amd64".to_owned(),
        ]
    }

    /// Whether a package of `version` is what the user meant.
    fn means(&self, version: &str) -> bool {
        self.0.starts_with("linux-image-")
            || version
                .strip_prefix(&self.0)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    }
}

/// A kernel that is unpacked and ready to boot.
pub(crate) struct Kernel {
    /// As the user named it.
    pub(crate) name: KernelName,
    /// As `uname -r` prints it.
    pub(super) version: String,
    /// The bootable image.
    pub(super) image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// Finds, downloads and unpacks, unless that was done before.
    pub(super) fn fetch(name: &KernelName) -> Result<Self> {
        let package = match resolve(name) {
            Some(package) => package,
            None => {
                update_package_lists()?;
                resolve(name).with_context(|| unknown(name))?
            }
        };
        let version = package.trim_start_matches("linux-image-").to_owned();
        let folder = workspace::target().join("vm").join(&version);
        package::unpack(&parts(&package)?, &folder)?;
        terminal::done("kernel", &format!("{version} present"));
        Self::unpacked(name, &folder, version)
    }

    fn unpacked(name: &KernelName, folder: &Path, version: String) -> Result<Self> {
        let first = |candidates: [String; 2]| {
            candidates
                .map(|path| folder.join(path))
                .into_iter()
                .find(|path| path.exists())
        };
        let modules = first([
            format!("lib/modules/{version}"),
            format!("usr/lib/modules/{version}"),
        ]);
        let modules = modules.with_context(|| format!("no modules in {}", folder.display()))?;
        let image = first([
            format!("boot/vmlinuz-{version}"),
            format!("usr/lib/modules/{version}/vmlinuz"),
        ]);
        let image = image.with_context(|| format!("no kernel image in {}", folder.display()))?;
        Ok(Self {
            name: name.clone(),
            version,
            image,
            modules,
        })
    }

    /// A module's bytes, unpacked; `None` when the package has no such module.
    pub(super) fn module(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(path) = find_module(&self.modules, name)? else {
            return Ok(None);
        };
        let unpacker: &[&str] = match path.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => &["xz", "-dc"],
            Some("zst") => &["zstd", "-qdc"],
            _ => {
                return fs::read(&path)
                    .map(Some)
                    .with_context(|| path.display().to_string());
            }
        };
        let output = Command::new(unpacker[0])
            .args(&unpacker[1..])
            .arg(&path)
            .output()
            .context(unpacker[0])?;
        ensure!(
            output.status.success(),
            "{} cannot unpack {}",
            unpacker[0],
            path.display()
        );
        Ok(Some(output.stdout))
    }
}

/// The package that holds the kernel: a meta package's dependency, or the package itself.
fn resolve(name: &KernelName) -> Option<String> {
    name.packages().into_iter().find_map(|package| {
        let depends = workspace::output(Command::new("apt-cache").args(["depends", &package])).ok()?;
        let real = dependency(&depends, "linux-image-").unwrap_or(package);
        name.means(real.trim_start_matches("linux-image-"))
            .then_some(real)
    })
}

/// The first package with this prefix and a version after it that `apt-cache depends` lists.
fn dependency(depends: &str, prefix: &str) -> Option<String> {
    depends.lines().find_map(|line| {
        let package = line.trim().strip_prefix("Depends: ")?;
        package
            .strip_prefix(prefix)?
            .starts_with(|first: char| first.is_ascii_digit())
            .then(|| package.to_owned())
    })
}

fn unknown(name: &KernelName) -> String {
    format!(
        "apt knows no package of kernel {name} (looked for {}); kernels come from Debian's archive, so this needs a Debian machine or its sources in apt",
        name.packages().join(", ")
    )
}

/// Newer kernels are packaged in two parts.
fn parts(package: &str) -> Result<Vec<String>> {
    let depends = workspace::output(Command::new("apt-cache").args(["depends", package]))?;
    let binary = dependency(&depends, "linux-binary-");
    let modules = dependency(&depends, "linux-modules-");
    Ok(match (binary, modules) {
        (Some(binary), Some(modules)) => vec![binary, modules],
        _ => vec![package.to_owned()],
    })
}

fn find_module(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let file = entry.file_name();
            let rest = file.to_str().and_then(|file| file.strip_prefix(name));
            if matches!(rest, Some(".ko" | ".ko.xz" | ".ko.zst")) {
                return Ok(Some(entry.path()));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_means_its_own_series_only() {
        let name: KernelName = "6.1".parse().unwrap();
        assert!(name.means("6.1.0-40-cloud-amd64"));
        assert!(!name.means("6.12.9+deb12-cloud-amd64"));
        assert!("some_test".parse::<KernelName>().is_err());
    }

    #[test]
    fn meta_packages_resolve_to_the_versioned_one() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-40-cloud-amd64\n";
        assert_eq!(
            dependency(depends, "linux-image-").as_deref(),
            Some("linux-image-6.1.0-40-cloud-amd64")
        );
        assert_eq!(dependency(depends, "linux-binary-"), None);
    }
}
