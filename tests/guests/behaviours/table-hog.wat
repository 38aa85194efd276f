;; Grows a function table until it is refused, 10,000 elements at a time, then answers how many elements it got as decimal text.
;; By hand, because Rust has no way to grow a table. The component ABI of `handler`: one pointer to the lowered request (ignored), and back
;; a pointer to the response: status u16 at 0, headers (pointer, length) at 4 and 8, body option tag at 12, body (pointer, length) at 16 and 20.
(module
  (memory (export "memory") 1)
  (table $hog 0 funcref)
  ;; The request is lowered into memory from here on; what lies below is the response (1,024) and its digits (ending at 1,100).
  (global $free (mut i32) (i32.const 4096))

  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $start i32) (local $end i32)
    (local.set $start
      (i32.and
        (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    (local.set $end (i32.add (local.get $start) (local.get $size)))
    (block $enough
      (loop $more
        (br_if $enough (i32.le_u (local.get $end) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $more (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0)))
        unreachable))
    (global.set $free (local.get $end))
    ;; No guest of ours is lowered by reallocation, but the contract is to keep what was there.
    (memory.copy (local.get $start) (local.get $old)
      (select (local.get $old_size) (local.get $size) (i32.lt_u (local.get $old_size) (local.get $size))))
    (local.get $start))

  (func (export "handler") (param $request i32) (result i32)
    (local $elements i32) (local $digit i32)
    (block $refused
      (loop $grow
        (br_if $refused (i32.lt_s (table.grow $hog (ref.null func) (i32.const 10000)) (i32.const 0)))
        (br $grow)))
    (local.set $elements (table.size $hog))
    (local.set $digit (i32.const 1100))
    (loop $digits
      (local.set $digit (i32.sub (local.get $digit) (i32.const 1)))
      (i32.store8 (local.get $digit) (i32.add (i32.const 48) (i32.rem_u (local.get $elements) (i32.const 10))))
      (local.set $elements (i32.div_u (local.get $elements) (i32.const 10)))
      (br_if $digits (local.get $elements)))
    (i32.store16 (i32.const 1024) (i32.const 200))
    (i32.store (i32.const 1028) (i32.const 0))
    (i32.store (i32.const 1032) (i32.const 0))
    (i32.store8 (i32.const 1036) (i32.const 1))
    (i32.store (i32.const 1040) (local.get $digit))
    (i32.store (i32.const 1044) (i32.sub (i32.const 1100) (local.get $digit)))
    (i32.const 1024)))
