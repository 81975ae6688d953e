module endings

go 1.24
