# cmake -DMIMALLOC_DIR= -DWORK= -P mimalloc_ways.cmake: versions are read, contents verified, and a machine's
# package sources turned to source packages, for machines unlike this one too.
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/../../cmake/mimalloc_ways.cmake)
file(REMOVE_RECURSE ${WORK})
set(failures 0)

macro(expect what got wanted)
  if(NOT "${got}" STREQUAL "${wanted}")
    message(SEND_ERROR "${what}: got\n${got}\nwanted\n${wanted}")
    math(EXPR failures "${failures} + 1")
  endif()
endmacro()

# ---- versions ----
foreach(pair 209:2.0.9 227:2.2.7 315:3.1.5 3010:3.0.10 3208:3.2.8 20300:2.3.0 20401:2.4.1 30403:3.4.3)
  string(REPLACE ":" ";" pair ${pair})
  list(GET pair 0 number)
  list(GET pair 1 wanted)
  file(WRITE ${WORK}/version/include/mimalloc.h "#pragma once\n#define MI_MALLOC_VERSION ${number}   // major\n")
  file(WRITE ${WORK}/version/src/static.c "")
  mimalloc_version(${WORK}/version got)
  expect("version of ${number}" "${got}" ${wanted})
endforeach()
mimalloc_version(${WORK}/nowhere got)
expect("version of nothing" "${got}" "")
file(WRITE ${WORK}/version/include/mimalloc.h "int x;\n")
mimalloc_version(${WORK}/version got)
expect("version of a header without one" "${got}" "")

# ---- contents: what this build uses, whole, changed by a byte, and with a file more ----
mimalloc_is_verified(${MIMALLOC_DIR} whole)
file(COPY ${MIMALLOC_DIR}/include ${MIMALLOC_DIR}/src DESTINATION ${WORK}/copy)
mimalloc_is_verified(${WORK}/copy copied)
expect("a copy is as good as the original" "${copied}" "${whole}")
file(APPEND ${WORK}/copy/src/page.c " ")
mimalloc_is_verified(${WORK}/copy got)
expect("one byte more" "${got}" FALSE)
file(COPY ${MIMALLOC_DIR}/src/page.c DESTINATION ${WORK}/copy/src)
mimalloc_is_verified(${WORK}/copy got)
expect("mended" "${got}" "${whole}")
file(WRITE ${WORK}/copy/include/extra.h "")
mimalloc_is_verified(${WORK}/copy got)
expect("one file more" "${got}" FALSE)

# ---- package sources ----
file(WRITE ${WORK}/etc/os-release "PRETTY_NAME=\"A release\"\nVERSION_CODENAME=trixie\nID=debian\n")
file(WRITE ${WORK}/etc/apt/sources.list
"# deb http://old.example/debian trixie main
deb http://a.example/debian trixie main contrib  # ours; by hand
deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] http://b.example/debian trixie-updates main
deb-src http://a.example/debian trixie main
deb [signed-by=/etc/vendor.gpg] https://vendor.example/apt vendor-stable main
deb http://c.example/debian trixie/updates main
")
file(WRITE ${WORK}/etc/apt/sources.list.d/more.list "  deb http://d.example/debian stable main\n")
file(WRITE ${WORK}/etc/apt/sources.list.d/debian.sources
"Types: deb deb-src
URIs: http://e.example/debian
Suites: trixie trixie-backports
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJKwYBBAHaRw8BAQdAd7Z0srwuhlB6JKFkcf4HU4SSS/xcRfwEQWzr
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main


# said above
Types: deb
URIs: http://f.example/debian-security
Suites: trixie-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
")
file(WRITE ${WORK}/etc/apt/sources.list.d/vendor.sources
"Types: deb\nURIs: https://vendor.example\nSuites: nodistro\nComponents: main\n")
mimalloc_write_apt_sources(${WORK}/etc ${WORK}/out)
file(READ ${WORK}/out/machine.list got)
expect("one-line sources" "${got}"
"deb-src http://a.example/debian trixie main contrib  # ours  by hand
deb-src [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] http://b.example/debian trixie-updates main
deb-src http://a.example/debian trixie main
deb-src http://d.example/debian stable main
")
file(READ ${WORK}/out/machine.sources got)
expect("deb822 sources" "${got}" "
Types: deb-src
URIs: http://e.example/debian
Suites: trixie trixie-backports
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJKwYBBAHaRw8BAQdAd7Z0srwuhlB6JKFkcf4HU4SSS/xcRfwEQWzr
 -----END PGP PUBLIC KEY BLOCK-----


# said above
Types: deb-src
URIs: http://f.example/debian-security
Suites: trixie-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

")

# A machine with neither kind of list.
file(WRITE ${WORK}/bare/os-release "ID=other\n")
mimalloc_write_apt_sources(${WORK}/bare ${WORK}/bare_out)
file(READ ${WORK}/bare_out/machine.list got)
expect("no lists at all" "${got}" "")

if(failures)
  message(FATAL_ERROR "${failures} failures")
endif()
