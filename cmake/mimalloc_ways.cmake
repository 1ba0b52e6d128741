# The ways to mimalloc's sources, and what is known of them; mimalloc_source.cmake decides among them.

set(mimalloc_commit 30ac9d56b8b9ea57ae84bc8ef17ef39000da08fe) # v2.4.1
set(mimalloc_url https://github.com/microsoft/mimalloc)

# SHA-256 over the list of "sha256  path" lines of all files under include/ and src/, sorted by path.
set(mimalloc_known_2.0.9 c7ba1db201dfcb66b58bd1e5fe5d8848989ffa2aa4681cd49cc2dbd879cb43a2)
set(mimalloc_known_2.4.1 286fca68e3202dfa907c116c7a0af9fde3820a7b06b890ad3590bb76a0b5e063)

function(mimalloc_hash dir result)
  file(GLOB_RECURSE files RELATIVE ${dir} ${dir}/include/* ${dir}/src/*)
  list(SORT files)
  set(lines "")
  foreach(file IN LISTS files)
    file(SHA256 ${dir}/${file} sum)
    string(APPEND lines "${sum}  ${file}\n")
  endforeach()
  string(SHA256 sum "${lines}")
  set(${result} ${sum} PARENT_SCOPE)
endfunction()

# MI_MALLOC_VERSION is 209 for 2.0.9, 20401 for 2.4.1 (and 3010 for 3.0.10).
function(mimalloc_version dir result)
  set(${result} "" PARENT_SCOPE)
  if(NOT EXISTS ${dir}/include/mimalloc.h OR NOT EXISTS ${dir}/src/static.c)
    return()
  endif()
  file(STRINGS ${dir}/include/mimalloc.h line REGEX "^#define[ \t]+MI_MALLOC_VERSION[ \t]+[0-9]+" LIMIT_COUNT 1)
  string(REGEX MATCH "MI_MALLOC_VERSION[ \t]+([0-9]+)" line "${line}")
  set(number "${CMAKE_MATCH_1}")
  if(number GREATER_EQUAL 10000)
    math(EXPR major "${number} / 10000")
    math(EXPR minor "${number} / 100 % 100")
    math(EXPR patch "${number} % 100")
  elseif(number GREATER_EQUAL 1000)
    math(EXPR major "${number} / 1000")
    math(EXPR minor "${number} / 100 % 10")
    math(EXPR patch "${number} % 100")
  elseif(number GREATER 0)
    math(EXPR major "${number} / 100")
    math(EXPR minor "${number} / 10 % 10")
    math(EXPR patch "${number} % 10")
  else()
    return()
  endif()
  set(${result} ${major}.${minor}.${patch} PARENT_SCOPE)
endfunction()

# True if the folder holds a version whose content is known here.
function(mimalloc_is_verified dir result)
  mimalloc_version(${dir} version)
  set(${result} FALSE PARENT_SCOPE)
  if(version AND DEFINED mimalloc_known_${version})
    mimalloc_hash(${dir} sum)
    if(sum STREQUAL mimalloc_known_${version})
      set(${result} TRUE PARENT_SCOPE)
    endif()
  endif()
endfunction()

# Each way sets `found` to a folder, or `why` to a phrase that says why it could not.
macro(mimalloc_cannot)
  set(why "${ARGV}" PARENT_SCOPE)
  set(found "" PARENT_SCOPE)
  return()
endmacro()

function(mimalloc_by_git)
  if(FETCHCONTENT_FULLY_DISCONNECTED)
    mimalloc_cannot("FETCHCONTENT_FULLY_DISCONNECTED is set")
  endif()
  find_program(MODA_GIT git)
  mark_as_advanced(MODA_GIT)
  if(NOT MODA_GIT)
    mimalloc_cannot("there is no git")
  endif()
  set(dir ${MODA_MIMALLOC_WORK}/upstream)
  file(REMOVE_RECURSE ${dir})
  file(MAKE_DIRECTORY ${dir})
  # No terminal, no password question, and a limit on each step: ls-remote first, since git itself waits
  # for minutes on a network that swallows packets.
  set(git ${CMAKE_COMMAND} -E env GIT_TERMINAL_PROMPT=0 GIT_ASKPASS=false ${MODA_GIT})
  execute_process(COMMAND ${git} ls-remote --exit-code ${mimalloc_url} HEAD
                  TIMEOUT 8 RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE error)
  if(NOT status EQUAL 0)
    string(REGEX REPLACE "\n.*" "" error "${error}")
    mimalloc_cannot("${status} ${error}")
  endif()
  execute_process(COMMAND ${git} init -q ${dir} OUTPUT_QUIET ERROR_QUIET)
  execute_process(COMMAND ${git} -C ${dir} -c http.lowSpeedLimit=1000 -c http.lowSpeedTime=15
                          fetch -q --depth 1 ${mimalloc_url} ${mimalloc_commit}
                  TIMEOUT 120 RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE error)
  if(status EQUAL 0)
    execute_process(COMMAND ${git} -C ${dir} -c core.autocrlf=false -c advice.detachedHead=false checkout -q FETCH_HEAD
                    TIMEOUT 60 RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE error)
  endif()
  if(NOT status EQUAL 0)
    string(REGEX REPLACE "\n.*" "" error "${error}")
    mimalloc_cannot("${status} ${error}")
  endif()
  set(found ${dir} PARENT_SCOPE)
endfunction()

# Writes into `to` the machine's own package sources, turned to source packages. Signed-By and all other
# options stay; the machine's lists are not touched. Only the release this system runs is taken: other
# archives (a vendor's, say) seldom have sources.
function(mimalloc_write_apt_sources etc to)
  file(STRINGS ${etc}/os-release codename REGEX "^VERSION_CODENAME=")
  string(REGEX REPLACE "^VERSION_CODENAME=\"?([^\"]*)\"?$" "\\1" codename "${codename}")
  if(NOT codename)
    set(codename "[^ \t]+")
  endif()
  set(suite "(${codename}(-[a-z-]+)?|stable|testing|unstable|sid)/?")
  file(GLOB lists ${etc}/apt/sources.list ${etc}/apt/sources.list.d/*.list)
  set(lines "")
  foreach(list IN LISTS lists)
    file(READ ${list} text)
    string(REPLACE ";" " " text "${text}")
    string(REGEX MATCHALL "[^\n]+" entries "${text}")
    foreach(entry IN LISTS entries)
      if(entry MATCHES "^[ \t]*deb(-src)?([ \t]+\\[[^]]*\\])?[ \t]+[^ \t]+[ \t]+${suite}[ \t]")
        string(REGEX REPLACE "^[ \t]*deb(-src)?[ \t]" "deb-src " entry "${entry}")
        string(APPEND lines "${entry}\n")
      endif()
    endforeach()
  endforeach()
  file(WRITE ${to}/machine.list "${lines}")

  file(GLOB lists ${etc}/apt/sources.list.d/*.sources)
  set(stanzas "")
  foreach(list IN LISTS lists)
    file(READ ${list} text)
    string(REPLACE ";" " " text "${text}")
    string(REPLACE "[" "<" text "${text}") # CMake's lists know brackets; Architectures and URIs have none
    # A stanza ends at an empty line.
    string(REGEX REPLACE "\n[ \t]*\n+" ";" text "${text}\n")
    foreach(stanza IN LISTS text)
      set(stanza "\n${stanza}\n")
      if(NOT stanza MATCHES "\nTypes:" OR stanza MATCHES "\n[Ee]nabled:[ \t]*no"
         OR NOT stanza MATCHES "\nSuites:[^\n]*[ \t]${suite}[ \t\n]")
        continue()
      endif()
      string(REGEX REPLACE "\nTypes:[^\n]*" "\nTypes: deb-src" stanza "${stanza}")
      string(APPEND stanzas "${stanza}\n")
    endforeach()
  endforeach()
  file(WRITE ${to}/machine.sources "${stanzas}")
endfunction()

function(mimalloc_by_apt)
  find_program(MODA_APT_GET apt-get)
  find_program(MODA_DPKG_SOURCE dpkg-source)
  mark_as_advanced(MODA_APT_GET MODA_DPKG_SOURCE)
  if(NOT MODA_APT_GET OR NOT MODA_DPKG_SOURCE)
    mimalloc_cannot("apt-get and dpkg-source are needed (package dpkg-dev)")
  endif()
  set(dir ${MODA_MIMALLOC_WORK}/distribution)
  file(REMOVE_RECURSE ${dir})
  file(MAKE_DIRECTORY ${dir}/sources ${dir}/state/lists/partial ${dir}/cache/archives/partial ${dir}/package)
  mimalloc_write_apt_sources(/etc ${dir}/sources)
  # As root, apt would fetch as its own user, who may not be able to enter the build folder.
  set(apt ${CMAKE_COMMAND} -E env LC_ALL=C ${MODA_APT_GET} -q
          -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts=${dir}/sources
          -o Dir::State::Lists=${dir}/state/lists -o Dir::Cache=${dir}/cache
          -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=2
          -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20
          -o APT::Get::AllowUnauthenticated=false -o Acquire::AllowInsecureRepositories=false
          -o Acquire::AllowWeakRepositories=false)
  message(STATUS "mimalloc: asking the distribution for its source package")
  # One archive of several may have no sources: whether it worked is what the second step says.
  execute_process(COMMAND ${apt} update WORKING_DIRECTORY ${dir}/package TIMEOUT 300
                  OUTPUT_VARIABLE update_log ERROR_VARIABLE update_log)
  execute_process(COMMAND ${apt} source --only-source mimalloc WORKING_DIRECTORY ${dir}/package TIMEOUT 300
                  RESULT_VARIABLE status OUTPUT_VARIABLE source_log ERROR_VARIABLE source_log)
  file(WRITE ${dir}/apt.log "${update_log}\n${source_log}")
  file(GLOB unpacked LIST_DIRECTORIES TRUE ${dir}/package/mimalloc-*)
  foreach(folder IN LISTS unpacked)
    if(status EQUAL 0 AND IS_DIRECTORY ${folder})
      set(found ${folder} PARENT_SCOPE)
      return()
    endif()
  endforeach()
  mimalloc_cannot("apt-get source failed, see ${dir}/apt.log")
endfunction()
