//! Compiles the shims against the libtorch that torch-sys was built with.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=shim/shim.cpp");
    println!("cargo:rerun-if-changed=shim/device.cpp");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");

    // torch-sys exports its library folder through its `links = "tch"` key.
    let lib = env::var("DEP_TCH_LIBTORCH_LIB")
        .map(PathBuf::from)
        .expect("torch-sys names the folder of libtorch in DEP_TCH_LIBTORCH_LIB");
    // The headers lie where torch-sys looked for them: LIBTORCH_INCLUDE, else beside `lib`.
    let root = env::var("LIBTORCH_INCLUDE")
        .map_or_else(|_| lib.parent().map(PathBuf::from).unwrap_or_default(), PathBuf::from);
    let include = root.join("include");
    let header = include.join("torch/csrc/autograd/custom_function.h");
    assert!(header.exists(), "libtorch has no {}: its headers are needed", header.display());
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());

    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(1)
        .debug(false)
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .define("GLOG_USE_GLOG_EXPORT", None)
        .file("shim/shim.cpp")
        .file("shim/device.cpp")
        .compile("tch_autograd_shim");
}
