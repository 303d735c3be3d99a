module example.com/outside

go 1.26.0

require github.com/patchbay/patchbay v0.0.0

replace github.com/patchbay/patchbay => ../../../..
