//! t
use lb_userspace::dataplane::*;
fn main() {
    let pins = std::path::Path::new("/tmp/w/bpffs/x");
    let _ = std::fs::create_dir_all("/tmp/w/bpffs");
    let p = Plane::load(pins, Sizes::default());
    match p { Ok(p) => { println!("{:?}", p.facts()); std::thread::sleep(std::time::Duration::from_secs(1)); println!("{:?}", p.maps.sweep()); remove(pins).unwrap(); }
      Err(e) => { println!("{e:?}"); } }
}
