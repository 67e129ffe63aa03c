//! The simulation brings its own `getrandom` and `clock_gettime`. Some libraries look them up by name
//! when the program runs, so the program must list them.

fn main() {
    for name in ["getrandom", "clock_gettime"] {
        println!("cargo::rustc-link-arg-bin=cairn-simulate=-Wl,--export-dynamic-symbol={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
