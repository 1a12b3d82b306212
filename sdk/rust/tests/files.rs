//! Files of a sandbox.

mod lab;

use std::fs;

use lab::{eventually, failure, fresh, on_vm, plain};
use lampyr_sdk::{
    ErrorKind, FileKind, LaunchOptions, Mount, VolumeOptions, ensure_volume, launch_sandbox,
    list_volumes, remove_volume, volume_exists,
};

#[test]
fn a_file_is_what_was_written() {
    on_vm(async {
        let sandbox = plain().await;
        let bytes: Vec<u8> = (0..=255).cycle().take(5 << 20).collect();
        sandbox.write_file("/srv/a/b", bytes.clone()).parents(true).mode(0o640).await.unwrap();
        assert!(sandbox.read_file("/srv/a/b").await.unwrap() == bytes);
        let info = sandbox.fs().stat("/srv/a/b").await.unwrap();
        assert_eq!((info.kind, info.size, info.mode), (FileKind::File, 5 << 20, 0o640));
        sandbox.write_file("/srv/a/b", "").await.unwrap();
        assert_eq!(sandbox.read_file("/srv/a/b").await.unwrap(), b"");
    });
}

#[test]
fn what_cannot_be_read_or_written_is_an_error() {
    on_vm(async {
        let sandbox = plain().await;
        let error = failure(sandbox.read_file("/missing").await);
        assert_eq!(error.failure().status(), Some(404));
        let error = failure(sandbox.read_file("relative").await);
        assert_eq!(error.kind(), ErrorKind::Usage);
        // A refusal comes before all of it was sent.
        let long = vec![b'x'; 16 << 20];
        let error = failure(sandbox.write_file("/missing/file", long).await);
        assert_eq!(error.failure().status(), Some(404), "{error:?}");
    });
}

#[test]
fn names_are_listed_moved_and_removed() {
    on_vm(async {
        let sandbox = plain().await;
        let fs = sandbox.fs();
        fs.mkdir("/srv/d/e").await.unwrap();
        fs.mkdir("/srv/d/e").await.unwrap();
        fs.write("/srv/d/f", "12").await.unwrap();
        sandbox.shell("ln -s nowhere /srv/d/l").await.unwrap();
        let listed = fs.list("/srv/d").await.unwrap();
        let listed: Vec<_> = listed.iter().map(|info| (info.name.as_str(), info.kind)).collect();
        let expected =
            [("e", FileKind::Directory), ("f", FileKind::File), ("l", FileKind::Symlink)];
        assert_eq!(listed, expected);
        assert!(fs.exists("/srv/d/l").await.unwrap());
        fs.rename("/srv/d/f", "/srv/d/g").await.unwrap();
        assert!(!fs.exists("/srv/d/f").await.unwrap());
        fs.remove("/srv/d/g").await.unwrap();
        assert_eq!(failure(fs.remove("/srv/d/g").await).failure().status(), Some(404));
        fs.remove_dir("/srv/d").await.unwrap();
        assert!(!fs.exists("/srv/d").await.unwrap());
    });
}

#[test]
fn trees_are_copied_in_and_out() {
    on_vm(async {
        let sandbox = plain().await;
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("deep")).unwrap();
        fs::write(from.join("deep/file"), b"\0\xff").unwrap();
        sandbox.copy_in(&from, "/srv/tree").await.unwrap();
        sandbox.copy_out("/srv/tree", &to).await.unwrap();
        assert_eq!(fs::read(to.join("deep/file")).unwrap(), b"\0\xff");
        sandbox.copy_in(from.join("deep/file"), "/srv/into/").await.unwrap();
        assert_eq!(sandbox.read_file("/srv/into/file").await.unwrap(), b"\0\xff");
        let error = failure(sandbox.copy_out("/missing", &to).await);
        assert!(error.message().contains("/missing"), "{error}");
        let error = failure(sandbox.copy_in(folder.path().join("missing"), "/srv/x").await);
        assert_eq!(error.kind(), ErrorKind::Usage, "{error:?}");
    });
}

#[test]
fn a_volume_outlives_its_sandboxes() {
    on_vm(async {
        let name = fresh("volume");
        assert!(!volume_exists(&name).await.unwrap());
        let options = || VolumeOptions::new().quota_mib(64).label("for", "a test");
        let made = ensure_volume(&name, options()).await.unwrap();
        assert_eq!((made.quota_bytes, made.labels["for"].as_str()), (Some(64 << 20), "a test"));
        let again = ensure_volume(&name, VolumeOptions::new().quota_mib(1)).await.unwrap();
        assert_eq!(again.quota_bytes, Some(64 << 20));
        let launch = |readonly: bool| {
            let mount = Mount::volume(&name);
            let mount = if readonly { mount.readonly() } else { mount };
            launch_sandbox(LaunchOptions::new(fresh("mounts")).mount("/v", mount))
        };
        let sandbox = launch(false).await.unwrap();
        sandbox.shell("echo kept > /v/file").await.unwrap();
        assert_eq!(failure(remove_volume(&name).await).failure().status(), Some(409));
        sandbox.stop().await.unwrap();
        let sandbox = launch(true).await.unwrap();
        assert_eq!(sandbox.shell("cat /v/file; rm /v/file").await.unwrap().stdout(), "kept\n");
        sandbox.stop().await.unwrap();
        let listed = list_volumes().await.unwrap();
        let listed = listed.iter().find(|volume| volume.name == name).unwrap();
        assert!(listed.size_bytes >= 5 && listed.last_used.is_some(), "{listed:?}");
        // It is still in use for a moment, now and then.
        eventually("it is removed", async || remove_volume(&name).await.is_ok()).await;
        remove_volume(&name).await.unwrap();
        assert!(!volume_exists(&name).await.unwrap());
    });
}
