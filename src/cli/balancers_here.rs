//! Which balancers run on this host, and with which file, for a hint in `turnout init`. Looks at `/proc`, and at nothing else.

use std::fs;
use std::path::{Path, PathBuf};

/// Names at most so many.
const MOST: usize = 3;

/// What `turnout init --from` could be given: the main files of HAProxy and nginx that run here, each once.
pub(super) fn files(proc: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(proc)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.parse::<u32>().ok()?;
            of_process(&entry.path())
        })
        .filter(|file| file.is_file())
        .collect();
    found.sort();
    found.dedup();
    found.truncate(MOST);
    found
}

fn of_process(process: &Path) -> Option<PathBuf> {
    let title = fs::read(process.join("cmdline")).ok()?;
    let text = String::from_utf8_lossy(&title);
    let words: Vec<&str> = text
        .split(['\0', ' '])
        .filter(|word| !word.is_empty())
        .collect();
    let named = |flag: &str| {
        let place = words.iter().position(|word| *word == flag)?;
        words.get(place + 1).map(PathBuf::from)
    };
    let file = match fs::read_to_string(process.join("comm")).ok()?.trim() {
        // the first of its files has the frontends
        "haproxy" => named("-f")?,
        "nginx" if text.starts_with("nginx: master") => {
            named("-c").unwrap_or_else(|| PathBuf::from("/etc/nginx/nginx.conf"))
        }
        _ => return None,
    };
    file.is_absolute().then_some(file)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn put(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = fs::File::create(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn masters_and_their_files_are_found_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (cfg, conf) = (folder.path().join("h.cfg"), folder.path().join("n.conf"));
        put(&cfg, "");
        put(&conf, "");
        let proc = folder.path().join("proc");
        let process = |pid: &str, comm: &str, line: &str| {
            put(&proc.join(pid).join("comm"), &format!("{comm}\n"));
            put(&proc.join(pid).join("cmdline"), line);
        };
        let cfg_text = cfg.display();
        process(
            "7",
            "haproxy",
            &format!("haproxy\0-Ws\0-f\0{cfg_text}\0-p\0/x\0"),
        );
        process(
            "8",
            "haproxy",
            &format!("haproxy\0-sf\07\0-Ws\0-f\0{cfg_text}\0"),
        );
        let master = format!("nginx: master process nginx -c {}", conf.display());
        process("9", "nginx", &master);
        process("10", "nginx", "nginx: worker process");
        process("11", "vim", &format!("vim\0-f\0{cfg_text}\0"));
        process("12", "haproxy", "haproxy\0-f\0/nonexistent.cfg\0");
        put(&proc.join("version"), "Linux");
        assert_eq!(files(&proc), [cfg, conf]);
        assert_eq!(files(&folder.path().join("none")), Vec::<PathBuf>::new());
    }
}
