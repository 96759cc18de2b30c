//! Folders that only this user can look into: what a session holds is nobody else's.

use std::fs::DirBuilder;
use std::io::Result;
use std::path::Path;

/// Creates the folder and those above it, where they are missing. Elsewhere than on Unix, the user's cache folder keeps
/// others out.
pub fn create(folder: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn others_are_kept_out() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a").join("b");
        super::create(&folder).unwrap();
        super::create(&folder).unwrap();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
}
