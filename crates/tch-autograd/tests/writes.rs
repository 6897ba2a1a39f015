//! Writes to tensors of which there are views: each by one operation of libtorch.

mod operations;

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};
use tch_autograd::{Element, View, view, view_mut};

use operations::{as_result, in_place, matrix, ones, random};

fn bits(tensor: &Tensor) -> Vec<u32> {
    let numbers: Vec<f32> = tensor.contiguous().flatten(0, -1).try_into().unwrap();
    numbers.into_iter().map(f32::to_bits).collect()
}

fn bits_of(seen: &View<f32>) -> Vec<u32> {
    seen.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn no_operation_writes_into_a_view() {
    let _guard = tch::no_grad_guard();
    let start = bits(&matrix());
    for (name, write) in [in_place(), as_result(), random()].concat() {
        let tensor = matrix();
        let seen = view::<f32>(&tensor).unwrap();
        write(&mut tensor.shallow_clone());
        assert_eq!(bits_of(&seen), start, "{name} is seen in a view");
        assert_ne!(bits(&tensor), start, "{name} writes nothing");
        let after = bits(&tensor);
        drop(seen);
        assert_eq!(bits(&tensor), after, "{name} is undone by the end of the view");
    }
}

#[test]
fn operations_do_under_a_view_what_they_do_without() {
    let _guard = tch::no_grad_guard();
    for (name, write) in [in_place(), as_result()].concat() {
        let (plain, tensor) = (matrix(), matrix());
        write(&mut plain.shallow_clone());
        let seen = view::<f32>(&tensor).unwrap();
        write(&mut tensor.shallow_clone());
        drop(seen);
        assert!(tensor.allclose(&plain, 1e-6, 1e-6, true), "{name}");
    }
}

#[test]
fn elements_of_every_type_stay_what_they_were() {
    fn check<T: Element + PartialEq + std::fmt::Debug>(before: [T; 3], after: [T; 3]) {
        let mut tensor = Tensor::from_slice(&[2_i64, 3, 5]).to_kind(T::KIND);
        let alias = tensor.shallow_clone();
        let seen = view::<T>(&tensor).unwrap();
        let _ = alias.get(1).fill_(1.0);
        let _ = tensor.g_mul_scalar_(7_i64);
        assert_eq!(*seen, before);
        assert_eq!(*view::<T>(&alias).unwrap(), after);
        drop((tensor, alias));
        assert_eq!(*seen, before);
    }
    check::<f32>([2.0, 3.0, 5.0], [14.0, 7.0, 35.0]);
    check::<f64>([2.0, 3.0, 5.0], [14.0, 7.0, 35.0]);
    let halves = |numbers: [f32; 3]| numbers.map(f16::from_f32);
    check::<f16>(halves([2.0, 3.0, 5.0]), halves([14.0, 7.0, 35.0]));
    let halves = |numbers: [f32; 3]| numbers.map(bf16::from_f32);
    check::<bf16>(halves([2.0, 3.0, 5.0]), halves([14.0, 7.0, 35.0]));
    check::<i64>([2, 3, 5], [14, 7, 35]);
    check::<i32>([2, 3, 5], [14, 7, 35]);
    check::<i16>([2, 3, 5], [14, 7, 35]);
    check::<i8>([2, 3, 5], [14, 7, 35]);
    check::<u8>([2, 3, 5], [14, 7, 35]);
}

#[test]
fn views_of_clones_that_libtorch_makes_lazily_are_apart() {
    let first = matrix();
    let mut second = first.internal_lazy_clone();
    let start = bits(&first);
    let views = [&first, &second].map(|t| view::<f32>(t).unwrap());
    let _ = first.shallow_clone().fill_(1.0);
    assert_eq!(bits(&second), start);
    let _ = second.shallow_clone().fill_(2.0);
    assert_eq!(bits(&first), bits(&ones()));
    assert!(views.iter().all(|seen| bits_of(seen) == start));
    drop(views);

    let mut third = second.internal_lazy_clone();
    view_mut::<f32>(&mut third).unwrap().fill(3.0);
    assert_eq!(bits(&second), bits(&(ones() * 2.0)));
    view_mut::<f32>(&mut second).unwrap().fill(4.0);
    assert_eq!(bits(&third), bits(&(ones() * 3.0)));
}

#[test]
fn threads_read_a_view_while_its_tensor_is_written_and_dropped() {
    let tensor = matrix();
    let start = bits(&tensor);
    let seen = view::<f32>(&tensor).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    assert_eq!(bits_of(&seen), start);
                }
            });
        }
        scope.spawn(move || {
            let mut tensor = tensor;
            for i in 0..2000 {
                tensor = tensor.fill_(f64::from(i));
            }
        });
    });
    assert_eq!(bits_of(&seen), start);
}

#[test]
fn empty_tensors_may_grow_under_a_view() {
    let mut empty = Tensor::zeros([0, 4], (Kind::Float, Device::Cpu));
    let seen = view::<f32>(&empty).unwrap();
    let _ = empty.resize_([2, 4]).fill_(1.0);
    assert!(seen.is_empty());
    assert_eq!(*view::<f32>(&empty).unwrap(), [1.0; 8]);
    let part = empty.narrow(0, 2, 0);
    let none = view::<f32>(&part).unwrap();
    let _ = empty.fill_(2.0);
    assert!(none.is_empty());
}

/// Set in the process that lacks memory.
#[cfg(unix)]
const LACKS_MEMORY: &str = "TCH_AUTOGRAD_TEST_LACKS_MEMORY";

/// libtorch alone would free what the view shows, at the second attempt to write.
#[cfg(unix)]
#[test]
fn without_memory_for_a_copy_a_write_ends_the_process() {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    const NAME: &str = "writes::without_memory_for_a_copy_a_write_ends_the_process";
    if std::env::var_os(LACKS_MEMORY).is_some() {
        let tensor = Tensor::empty([4 << 30], (Kind::Uint8, Device::Cpu));
        let seen = view::<u8>(&tensor).unwrap();
        eprintln!("a view of {} elements", seen.len());
        // Without a scalar, whose end in tch would panic over the error of the operation.
        let _ = tensor.get(0).f_zero_();
        let _ = tensor.get(0).f_zero_();
        drop(tensor);
        eprintln!("written, and the view has {}", seen[0]);
        return;
    }
    // Room for one tensor of 4 GiB, which takes no memory until it is written to, and not for two.
    let limits = "ulimit -c 0; ulimit -v 7340032; exec \"$0\" --exact \"$1\" --nocapture";
    let mut shell = Command::new("sh");
    shell.args(["-c", limits]).arg(std::env::current_exe().unwrap()).arg(NAME);
    let output = shell.env(LACKS_MEMORY, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("a view of 4294967296 elements"), "{text}");
    assert!(text.contains("can't allocate memory"), "{text}");
    // By an exception that nobody catches: SIGABRT, with nothing run before it.
    assert!(text.contains("terminate called") && !text.contains("written"), "{text}");
    assert_eq!(output.status.signal(), Some(6), "{text}");
}
