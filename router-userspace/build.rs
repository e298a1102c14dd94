//! Embeds the kernel half: copies the object that `cargo xtask build-ebpf` made to `$OUT_DIR/router.bpf.o`, where
//! `aya::include_bytes_aligned!` finds it.
//!
//! Without an object the copy is empty, so that plain `cargo build` and `cargo test` need neither the BPF target nor
//! its linker; an agent built so says that it has no kernel half. Building the object is xtask's work.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// Names another object to embed, for packagers who build the kernel half elsewhere.
const OBJECT_VARIABLE: &str = "ROUTER_BPF_OBJECT";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed={OBJECT_VARIABLE}");
    let object = match env::var_os(OBJECT_VARIABLE) {
        Some(path) => {
            let path = PathBuf::from(path);
            println!("cargo::rerun-if-changed={}", path.display());
            fs::read(&path).map_err(|error| at(&path, &error))?
        }
        None => workspace_object()?,
    };
    let embedded = Path::new(&variable("OUT_DIR")?).join("router.bpf.o");
    fs::write(&embedded, object).map_err(|error| at(&embedded, &error))
}

/// The object that xtask made; empty when it has made none.
///
/// The folder is made and watched, not the file: cargo takes a watched file that is missing for one that has changed,
/// and would compile this crate anew each time.
fn workspace_object() -> io::Result<Vec<u8>> {
    let folder = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("../target/bpf");
    fs::create_dir_all(&folder).map_err(|error| at(&folder, &error))?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let path = folder.join("router.bpf.o");
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        found => found.map_err(|error| at(&path, &error)),
    }
}

fn variable(name: &str) -> io::Result<String> {
    env::var(name).map_err(|error| io::Error::other(format!("{name}: {error}")))
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
